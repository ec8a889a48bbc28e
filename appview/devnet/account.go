package devnet

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/plc"
	"atcr.io/operator/appview/pds"
)

// firstAppPassword is the name of the app password that every configured account has.
const firstAppPassword = "devnet"

type account struct {
	DID      syntax.DID
	Handle   syntax.Handle
	Email    string
	Password string
}

var errNoAccount = errors.New("no such account")

// account by handle or DID.
func (n *Net) account(ctx context.Context, identifier string) (account, error) {
	var a account
	err := n.db.QueryRowContext(ctx, `SELECT did, handle, email, password FROM account WHERE did = ?1 OR handle = ?2`, identifier, strings.ToLower(identifier)).
		Scan(&a.DID, &a.Handle, &a.Email, &a.Password)
	if errors.Is(err, sql.ErrNoRows) {
		return a, errNoAccount
	}
	if err != nil {
		return a, fmt.Errorf("look up an account: %w", err)
	}
	return a, nil
}

// createAccount registers a did:plc with the directory, makes the repository and then the account.
func (n *Net) createAccount(ctx context.Context, handle syntax.Handle, email, password string) (account, error) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return account{}, fmt.Errorf("make a signing key: %w", err)
	}
	op, err := n.identity(handle, key)
	if err != nil {
		return account{}, err
	}
	if err := op.Sign(n.rotationKey); err != nil {
		return account{}, err
	}
	did, err := op.DID()
	if err != nil {
		return account{}, err
	}
	if err := n.plc.add(ctx, did, op); err != nil {
		return account{}, err
	}
	if err := n.engine.CreateRepo(ctx, pds.NewRepo{DID: did, Key: key, Handle: string(handle)}); err != nil {
		return account{}, err
	}
	a := account{DID: did, Handle: handle, Email: email, Password: password}
	_, err = n.db.ExecContext(ctx, `INSERT INTO account (did, handle, email, password, created_at) VALUES (?, ?, ?, ?, ?)`,
		a.DID, a.Handle, a.Email, a.Password, time.Now().UTC().Format(time.RFC3339Nano))
	if err != nil {
		return account{}, fmt.Errorf("store the account of %s: %w", handle, err)
	}
	return a, nil
}

// identity is the operation that an account's DID should end in.
func (n *Net) identity(handle syntax.Handle, key atcrypto.PrivateKey) (plc.Operation, error) {
	public, err := key.PublicKey()
	if err != nil {
		return plc.Operation{}, fmt.Errorf("derive a public key: %w", err)
	}
	rotation, err := n.rotationKey.PublicKey()
	if err != nil {
		return plc.Operation{}, fmt.Errorf("derive a public key: %w", err)
	}
	return plc.Operation{
		Type:                plc.TypeOperation,
		RotationKeys:        []string{rotation.DIDKey()},
		VerificationMethods: map[string]string{"atproto": public.DIDKey()},
		AlsoKnownAs:         []string{"at://" + string(handle)},
		Services:            map[string]plc.Service{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: n.cfg.PublicURL}},
	}, nil
}

// refreshIdentities moves all accounts to the public URL of this start.
func (n *Net) refreshIdentities(ctx context.Context) error {
	rows, err := n.db.QueryContext(ctx, `SELECT did, handle FROM account ORDER BY handle`)
	if err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	var all []account
	for rows.Next() {
		var a account
		if err := rows.Scan(&a.DID, &a.Handle); err != nil {
			return errors.Join(fmt.Errorf("list the accounts: %w", err), rows.Close())
		}
		all = append(all, a)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	for _, a := range all {
		if err := n.refreshIdentity(ctx, a); err != nil {
			return fmt.Errorf("update the identity of %s: %w", a.Handle, err)
		}
	}
	return nil
}

func (n *Net) refreshIdentity(ctx context.Context, a account) error {
	key, err := n.engine.SigningKey(ctx, a.DID)
	if err != nil {
		return err
	}
	want, err := n.identity(a.Handle, key)
	if err != nil {
		return err
	}
	have, last, err := n.plc.latest(ctx, a.DID)
	if err != nil || want.Same(have) {
		return err
	}
	want.Prev = &last
	if err := want.Sign(n.rotationKey); err != nil {
		return err
	}
	if err := n.plc.add(ctx, a.DID, want); err != nil {
		return err
	}
	return n.engine.AnnounceIdentity(ctx, a.DID, string(a.Handle))
}

// Rename gives an account another handle, which may have been another account's until now; that one gets a handle that
// nobody knows.
func (n *Net) Rename(ctx context.Context, did syntax.DID, to string) error {
	handle, err := parseHandle(to)
	if err != nil {
		return fmt.Errorf("rename %s: %w", did, err)
	}
	if other, err := n.account(ctx, string(handle)); err == nil && other.DID != did {
		if err := n.setHandle(ctx, other.DID, syntax.Handle(fmt.Sprintf("was-%d-%s", time.Now().UnixNano(), handle))); err != nil {
			return err
		}
	}
	return n.setHandle(ctx, did, handle)
}

func (n *Net) setHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error {
	if _, err := n.db.ExecContext(ctx, `UPDATE account SET handle = ? WHERE did = ?`, handle, did); err != nil {
		return fmt.Errorf("rename %s: %w", did, err)
	}
	n.naming.Lock()
	for i := range n.accounts {
		if n.accounts[i].DID == did {
			n.accounts[i].Handle = handle
		}
	}
	n.naming.Unlock()
	if err := n.refreshIdentity(ctx, account{DID: did, Handle: handle}); err != nil {
		return fmt.Errorf("rename %s: %w", did, err)
	}
	return nil
}

// ensureAccount creates a configured account, or sets the passwords of one that exists.
func (n *Net) ensureAccount(ctx context.Context, want Account) (AccountInfo, error) {
	handle, err := parseHandle(want.Handle)
	if err != nil {
		return AccountInfo{}, err
	}
	a, err := n.account(ctx, string(handle))
	if errors.Is(err, errNoAccount) {
		password := want.Password
		if password == "" {
			password = newPassword()
		}
		a, err = n.createAccount(ctx, handle, "", password)
	}
	if err != nil {
		return AccountInfo{}, err
	}
	if want.Password != "" && want.Password != a.Password {
		a.Password = want.Password
		if _, err := n.db.ExecContext(ctx, `UPDATE account SET password = ? WHERE did = ?`, a.Password, a.DID); err != nil {
			return AccountInfo{}, fmt.Errorf("set the password of %s: %w", handle, err)
		}
	}
	app, err := n.ensureAppPassword(ctx, a.DID, want.AppPassword)
	if err != nil {
		return AccountInfo{}, fmt.Errorf("set the app password of %s: %w", handle, err)
	}
	return AccountInfo{DID: a.DID, Handle: a.Handle, Password: a.Password, AppPassword: app}, nil
}

func (n *Net) ensureAppPassword(ctx context.Context, did syntax.DID, want string) (string, error) {
	var have string
	err := n.db.QueryRowContext(ctx, `SELECT password FROM app_password WHERE did = ? AND name = ?`, did, firstAppPassword).Scan(&have)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	if want == "" {
		want = have
	}
	if want == "" {
		want = newPassword()
	}
	if want == have {
		return have, nil
	}
	_, err = n.db.ExecContext(ctx, `INSERT INTO app_password (did, name, password, created_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (did, name) DO UPDATE SET password = excluded.password`, did, firstAppPassword, want, time.Now().UTC().Format(time.RFC3339Nano))
	return want, err
}

func parseHandle(raw string) (syntax.Handle, error) {
	handle, err := syntax.ParseHandle(raw)
	if err != nil {
		return "", &pds.XRPCError{Status: http.StatusBadRequest, Name: "InvalidHandle", Message: "Input/handle must be a valid handle"}
	}
	handle = handle.Normalize()
	if !strings.HasSuffix(string(handle), userDomain) {
		return "", &pds.XRPCError{Status: http.StatusBadRequest, Name: "UnsupportedDomain", Message: "Not a supported handle domain: handles end in " + userDomain}
	}
	return handle, nil
}

// login checks an account password or an app password; it returns the app password's name, empty for the account's own.
func (n *Net) login(ctx context.Context, identifier, password string) (account, string, error) {
	wrong := &pds.XRPCError{Status: http.StatusUnauthorized, Name: "AuthenticationRequired", Message: "Invalid identifier or password"}
	a, err := n.account(ctx, identifier)
	if errors.Is(err, errNoAccount) {
		return a, "", wrong
	}
	if err != nil {
		return a, "", err
	}
	if equal(a.Password, password) {
		return a, "", nil
	}
	passwords, err := n.appPasswords(ctx, a.DID)
	if err != nil {
		return a, "", err
	}
	for _, p := range passwords {
		if equal(p.password, password) {
			return a, p.Name, nil
		}
	}
	return a, "", wrong
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

type appPassword struct {
	Name       string `json:"name"`
	CreatedAt  string `json:"createdAt"`
	Privileged bool   `json:"privileged"`
	password   string
}

func (n *Net) appPasswords(ctx context.Context, did syntax.DID) ([]appPassword, error) {
	rows, err := n.db.QueryContext(ctx, `SELECT name, created_at, privileged, password FROM app_password WHERE did = ? ORDER BY created_at DESC`, did)
	if err != nil {
		return nil, fmt.Errorf("list app passwords: %w", err)
	}
	defer rows.Close()
	out := []appPassword{}
	for rows.Next() {
		var p appPassword
		if err := rows.Scan(&p.Name, &p.CreatedAt, &p.Privileged, &p.password); err != nil {
			return nil, fmt.Errorf("list app passwords: %w", err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}
