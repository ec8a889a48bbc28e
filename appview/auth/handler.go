package auth

import (
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"atcr.io/operator/appview/network"
)

const maxForm = 64 << 10 // bytes of a POST body

// Handler answers [TokenPath]: GET with Basic credentials or none, as the Distribution token specification says, and
// POST with an OAuth 2 form (grant_type=password or refresh_token), as containerd and BuildKit try first.
type Handler struct {
	Issuer    *Issuer
	Directory Directory
	Passwords Passwords
	Refresh   *RefreshTokens
	// NoOffline makes no refresh tokens: clients keep the password. Those that were made count as before.
	NoOffline bool
	Logger    *slog.Logger
	// Observe, when set, is told how each request ended: "granted", "refreshed", "anonymous", or an OCI error code.
	Observe func(result string)
}

// request is what both forms ask for.
type request struct {
	service, account, client string
	scopes                   []string
	user, password           string
	hasCredentials           bool
	offline                  bool   // a refresh token is wanted
	refreshToken             string // instead of credentials
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	result, err := h.answer(w, r)
	if err != nil {
		var api *apiError
		if !errors.As(err, &api) {
			api = unavailable("The registry could not issue a token.", "Try again in a moment.", err)
		}
		if api.status >= http.StatusInternalServerError || api.status == http.StatusTooManyRequests {
			h.Logger.WarnContext(r.Context(), "token request failed", "code", api.code, "error", api.cause)
		} else {
			h.Logger.DebugContext(r.Context(), "token request refused", "code", api.code, "error", api.cause)
		}
		api.write(w, h.Issuer.Service)
		result = api.code
	}
	if h.Observe != nil {
		h.Observe(result)
	}
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (result string, err error) {
	var req request
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		req, err = fromQuery(r)
	case http.MethodPost:
		req, err = fromForm(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		err = &apiError{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "Tokens are requested with GET or POST."}
	}
	if err != nil {
		return "", err
	}
	if req.service != "" && req.service != h.Issuer.Service {
		return "", badRequest("This registry issues tokens for the service " + h.Issuer.Service + " only. Ask without a service parameter, or with the one of the WWW-Authenticate header.")
	}
	if req.account != "" && req.hasCredentials && !strings.EqualFold(req.account, req.user) {
		return "", badRequest("The account parameter names another user than the credentials. Leave it out, or make them agree.")
	}
	who, refresh := Subject{}, ""
	result = "anonymous"
	switch {
	case req.refreshToken != "":
		if who, err = h.redeem(r.Context(), req.refreshToken, req.account); err != nil {
			return "", err
		}
		result = "refreshed"
		if req.offline {
			refresh = req.refreshToken // it cannot be replaced: clients keep it in files that they do not write again
		}
	case req.hasCredentials:
		var credential string
		if who, credential, err = h.login(r.Context(), req.user, req.password, network.Of(r)); err != nil {
			return "", err
		}
		result = "granted"
		if req.offline && !h.NoOffline {
			if refresh, err = h.Refresh.Make(r.Context(), who.DID, credential, req.client); err != nil {
				return "", err
			}
		}
	}
	granted := Grant(who, ParseScopes(req.scopes))
	token, issued, err := h.Issuer.Issue(who, granted)
	if err != nil {
		return "", err
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct { //nolint:errcheck // the client is gone
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
		IssuedAt    string `json:"issued_at"`
		Scope       string `json:"scope,omitempty"`
		Refresh     string `json:"refresh_token,omitempty"`
	}{token, token, "Bearer", int(h.Issuer.Life / time.Second), issued.UTC().Format(time.RFC3339), scopeString(granted), refresh})
	return result, nil
}

func fromQuery(r *http.Request) (request, error) {
	q := r.URL.Query()
	req := request{service: q.Get("service"), account: q.Get("account"), client: q.Get("client_id"), scopes: q["scope"],
		offline: q.Get("offline_token") == "true" || q.Get("access_type") == "offline"}
	if r.Header.Get("Authorization") == "" {
		return req, nil
	}
	user, password, ok := basicDID(r.BasicAuth())
	if !ok {
		return req, unauthorized("The Authorization header is not Basic.", "Send a handle or DID and an app password with Basic authentication.", nil)
	}
	// An empty user name with an empty password is how some clients say "anonymous".
	if user == "" && password == "" {
		return req, nil
	}
	req.user, req.password, req.hasCredentials = user, password, true
	return req, nil
}

// basicDID puts a DID back together that a client sent as the user name: Basic authentication ends the user name at
// the first colon, so did:plc:abc and a password arrive as "did" and "plc:abc:password".
func basicDID(user, password string, ok bool) (string, string, bool) {
	if !ok || user != "did" {
		return user, password, ok
	}
	method, rest, _ := strings.Cut(password, ":")
	id, secret, found := strings.Cut(rest, ":")
	if !found || method != "plc" && method != "web" {
		return user, password, ok
	}
	if port, after, more := strings.Cut(secret, ":"); more && method == "web" && isDigits(port) {
		id, secret = id+":"+port, after
	}
	return "did:" + method + ":" + id, secret, true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// fromForm reads the OAuth 2 form of the token specification. Parameters of the URL do not count: they end up in logs.
func fromForm(w http.ResponseWriter, r *http.Request) (request, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return request{}, badRequest("A POST for a token has the content type application/x-www-form-urlencoded. Send a form, or use GET.")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return request{}, badRequest("The form could not be read. Send at most 64 KiB of application/x-www-form-urlencoded.")
	}
	f := r.PostForm
	req := request{
		service: f.Get("service"), account: f.Get("account"), client: f.Get("client_id"), scopes: f["scope"],
		offline: f.Get("access_type") == "offline" || f.Get("offline_token") == "true",
	}
	switch f.Get("grant_type") {
	case "password":
		req.user, req.password, req.hasCredentials = f.Get("username"), f.Get("password"), true
	case "refresh_token":
		if req.refreshToken = f.Get("refresh_token"); req.refreshToken == "" {
			return request{}, badRequest("The form has no refresh_token. Send the one that a login with offline_token=true answered, or log in with an app password.")
		}
	default:
		return request{}, badRequest("This registry knows the grant types password and refresh_token. Log in with a handle or DID and an app password.")
	}
	return req, nil
}

func scopeString(granted []Access) string {
	all := make([]string, len(granted))
	for i, a := range granted {
		all[i] = a.String()
	}
	return strings.Join(all, " ")
}
