package devnet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"atcr.io/operator/appview/pds"
)

// serveCreateAccount is open to everybody: this is a development server.
func (n *Net) serveCreateAccount(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Handle   string `json:"handle"`
		Email    string `json:"email"`
		Password string `json:"password"`
	}
	if err := pds.ReadJSON(w, r, pds.MaxJSONBytes, &in); err != nil {
		return err
	}
	handle, err := parseHandle(in.Handle)
	if err != nil {
		return err
	}
	if in.Password == "" {
		return pds.InvalidRequest("Password is required")
	}
	n.creating.Lock()
	defer n.creating.Unlock()
	if _, err := n.account(r.Context(), string(handle)); err == nil {
		return badToken("HandleNotAvailable", "Handle already taken: "+string(handle))
	} else if !errors.Is(err, errNoAccount) {
		return err
	}
	a, err := n.createAccount(r.Context(), handle, in.Email, in.Password)
	if err != nil {
		return err
	}
	t, err := n.issue(r.Context(), a.DID, "", rand.Text())
	if err != nil {
		return err
	}
	return n.answerSession(w, r, a, t)
}

// createAppPassword needs the account's own password: an app password cannot make others.
func (n *Net) createAppPassword(w http.ResponseWriter, r *http.Request) error {
	claims, err := n.bearer(r, typeAccess, scopeAccess)
	if err != nil {
		return err
	}
	var in struct {
		Name       string `json:"name"`
		Privileged bool   `json:"privileged"`
	}
	if err := pds.ReadJSON(w, r, pds.MaxJSONBytes, &in); err != nil {
		return err
	}
	if in.Name == "" {
		return pds.InvalidRequest("name is required")
	}
	password, now := newPassword(), time.Now().UTC().Format(time.RFC3339Nano)
	res, err := n.db.ExecContext(r.Context(), `INSERT INTO app_password (did, name, password, privileged, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		claims.Subject, in.Name, password, in.Privileged, now)
	if err != nil {
		return fmt.Errorf("store an app password: %w", err)
	}
	if made, err := res.RowsAffected(); err != nil || made == 0 {
		return pds.InvalidRequest("could not create app-specific password: the name is taken")
	}
	pds.WriteJSON(w, http.StatusOK, map[string]any{"name": in.Name, "password": password, "createdAt": now, "privileged": in.Privileged})
	return nil
}

func (n *Net) listAppPasswords(w http.ResponseWriter, r *http.Request) error {
	did, err := n.authorize(r)
	if err != nil {
		return err
	}
	passwords, err := n.appPasswords(r.Context(), did)
	if err != nil {
		return err
	}
	pds.WriteJSON(w, http.StatusOK, map[string]any{"passwords": passwords})
	return nil
}

// revokeAppPassword ends the password and the sessions made with it; access tokens live on until they expire.
func (n *Net) revokeAppPassword(w http.ResponseWriter, r *http.Request) error {
	did, err := n.authorize(r)
	if err != nil {
		return err
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := pds.ReadJSON(w, r, pds.MaxJSONBytes, &in); err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM refresh_token WHERE did = ? AND app_password = ?`,
		`DELETE FROM app_password WHERE did = ? AND name = ?`,
	} {
		if _, err := n.db.ExecContext(r.Context(), query, did, in.Name); err != nil {
			return fmt.Errorf("revoke an app password: %w", err)
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
