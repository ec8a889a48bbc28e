package oci

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/store"
)

type named struct {
	err    error
	status int
	code   string
}

// below are the errors that the packages below tell apart, by the names of their variables and types, and what a client
// is told.
var below = map[string]named{
	"store.ErrUnavailable": {store.ErrUnavailable, 503, "UNAVAILABLE"},
	"store.ErrFull":        {store.ErrFull, 507, "UNAVAILABLE"},

	"index.ErrNotFound":            {index.ErrNotFound, 404, "MANIFEST_UNKNOWN"},
	"index.ErrBusy":                {index.ErrBusy, 503, "UNAVAILABLE"},
	"index.ErrCorrupt":             {index.ErrCorrupt, 502, "MANIFEST_UNVERIFIED"},
	"index.ErrNoHold":              {index.ErrNoHold, 403, "DENIED"},
	"index.ErrTooManyRepositories": {index.ErrTooManyRepositories, 400, "MANIFEST_INVALID"},
	"index.MissingEntry":           {&index.MissingEntry{Digest: "sha256:x"}, 400, "MANIFEST_BLOB_UNKNOWN"},
	"index.WrongSize":              {&index.WrongSize{Digest: "sha256:x"}, 400, "MANIFEST_INVALID"},

	"atproto.ErrUnknownIdentity": {atproto.ErrUnknownIdentity, 403, "DENIED"},
	"atproto.ErrUnavailable":     {atproto.ErrUnavailable, 503, "UNAVAILABLE"},
	"atproto.ErrRecordNotFound":  {atproto.ErrRecordNotFound, 503, "UNAVAILABLE"},
	"atproto.ErrBlobNotFound":    {atproto.ErrBlobNotFound, 404, "MANIFEST_UNKNOWN"},
	"atproto.ErrInvalidSwap":     {atproto.ErrInvalidSwap, 503, "UNAVAILABLE"},
	"atproto.ErrBlobTooLarge":    {atproto.ErrBlobTooLarge, 413, "SIZE_INVALID"},
	"atproto.ErrUnauthorized":    {atproto.ErrUnauthorized, 403, "DENIED"},
	"atproto.ErrAudienceRefused": {fmt.Errorf("%w: %w", atproto.ErrAudienceRefused, atproto.ErrRefused), 403, "DENIED"},
	"atproto.ErrRefused":         {atproto.ErrRefused, 403, "DENIED"},
	"atproto.TooManyRequests":    {&atproto.TooManyRequests{RetryAfter: time.Second}, 429, "TOOMANYREQUESTS"},

	"holdclient.Error":      {&holdclient.Error{}, 503, "UNAVAILABLE"}, // and see below
	"holdclient.TokenError": {&holdclient.TokenError{Err: atproto.ErrRefused}, 403, "DENIED"},

	"upload.ErrUnknown":   {upload.ErrUnknown, 404, "BLOB_UPLOAD_UNKNOWN"},
	"upload.ErrConflict":  {upload.ErrConflict, 503, "UNAVAILABLE"},
	"upload.ErrDigest":    {upload.ErrDigest, 400, "DIGEST_INVALID"},
	"upload.ErrAlgorithm": {upload.ErrAlgorithm, 400, "DIGEST_INVALID"},
	"upload.ErrShortPart": {upload.ErrShortPart, 400, "BLOB_UPLOAD_INVALID"},
	"upload.ErrManyParts": {upload.ErrManyParts, 400, "BLOB_UPLOAD_INVALID"},
	"upload.ErrTooMany":   {upload.ErrTooMany, 429, "TOOMANYREQUESTS"},
	"upload.ErrNoMemory":  {upload.ErrNoMemory, 503, "UNAVAILABLE"},
	"upload.BodyError":    {&upload.BodyError{Err: errors.New("cut off")}, 400, "BLOB_UPLOAD_INVALID"},

	// Of no package of ours.
	"context.DeadlineExceeded": {context.DeadlineExceeded, 503, "UNAVAILABLE"},
	"context.Canceled":         {context.Canceled, 503, "UNAVAILABLE"}, // of somebody else: a client that left gets no answer
}

// elsewhere are the errors that come to no handler as they are, and why.
var elsewhere = map[string]string{
	"store.ErrNotFound":     "a session or an identity: the callers know what a missing one means",
	"store.ErrRefused":      "at start",
	"store.ErrLocked":       "at start",
	"store.ErrNewerSchema":  "at start",
	"store.NewerSchema":     "at start",
	"index.InUse":           "the handler of DELETE answers it",
	"atproto.PDSError":      "it is one of the variables",
	"holdclient.errStalled": "within a holdclient.Error",
	"upload.errFull":        "a part that is sent as it is",
}

func TestWhateverFailsBelowHasANameAndARemedy(t *testing.T) {
	for name, want := range below {
		for _, err := range []error{want.err, fmt.Errorf("what was being done: %w", want.err), errors.Join(errors.New("and more"), want.err)} {
			e := translate(err)
			require.Equal(t, want.status, e.status(), name)
			require.Equal(t, want.code, e.Code.Descriptor().Value, name)
			require.NotEmpty(t, e.Remedy, name)
			require.True(t, strings.HasSuffix(e.Sentence, ".") && strings.HasSuffix(e.Remedy, "."), "%s: %s", name, e.message())
			if e.status() >= 500 {
				require.ErrorIs(t, e, want.err, "%s: the log says why", name)
			}
		}
	}
	seen := map[string]holdclient.Kind{}
	for kind := holdclient.Unavailable; kind <= holdclient.InUse; kind++ {
		e := translate(&holdclient.Error{Kind: kind, Hold: "did:web:hold.example.com"})
		require.NotEqual(t, 500, e.status(), kind)
		require.NotEmpty(t, e.Remedy, kind)
		require.NotContains(t, seen, e.message(), "%s reads like %s", kind, seen[e.message()])
		seen[e.message()] = kind
	}
	require.Equal(t, "UNKNOWN", translate(errors.New("a mistake of ours")).Code.Descriptor().Value)
}

// Who makes a new kind of error says here what a client is told.
func TestEveryErrorThatIsToldApartIsInTheTable(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range []string{"../store", "../index", "../holdclient", "../atproto", "../atproto/session", "upload"} {
		for name, wraps := range declaredErrors(t, dir) {
			found[name] = true
			_, ours := below[wraps]
			_, told := below[name]
			require.True(t, ours || told || elsewhere[name] != "", "%s is not in the table", name)
		}
	}
	for name := range elsewhere {
		require.True(t, found[name], "there is no %s", name)
	}
	for name := range below {
		require.True(t, found[name] || strings.HasPrefix(name, "context."), "there is no %s", name)
	}
}

// declaredErrors are the variables of a package that are made by errors.New or fmt.Errorf, and the types with a method
// Error; the value is the exported variable that they wrap, if any. Names are package.Name.
func declaredErrors(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := parseDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		in := f.Name.Name + "."
		for _, d := range f.Decls {
			if m, ok := d.(*ast.FuncDecl); ok && m.Recv != nil && m.Name.Name == "Error" {
				if star, ok := m.Recv.List[0].Type.(*ast.StarExpr); ok {
					out[in+fmt.Sprint(star.X)] = ""
				} else {
					out[in+fmt.Sprint(m.Recv.List[0].Type)] = ""
				}
			}
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, value := range v.Values {
					call, ok := value.(*ast.CallExpr)
					if !ok {
						continue
					}
					of, ok := call.Fun.(*ast.SelectorExpr)
					if !ok || of.Sel.Name != "New" && of.Sel.Name != "Errorf" || fmt.Sprint(of.X) != "errors" && fmt.Sprint(of.X) != "fmt" {
						continue
					}
					out[in+v.Names[i].Name] = wrapped(in, call)
				}
			}
		}
	}
	return out
}

// wrapped is the first argument of fmt.Errorf("%w...", x) as package.Name.
func wrapped(in string, call *ast.CallExpr) string {
	if len(call.Args) < 2 {
		return ""
	}
	if text, ok := call.Args[0].(*ast.BasicLit); !ok || !strings.HasPrefix(text.Value, `"%w`) {
		return ""
	}
	switch x := call.Args[1].(type) {
	case *ast.Ident:
		return in + x.Name
	case *ast.SelectorExpr:
		return fmt.Sprint(x.X) + "." + x.Sel.Name
	}
	return ""
}

func parseDir(dir string) (out []*ast.File, err error) {
	entries, err := fs.Glob(os.DirFS(dir), "*.go")
	for _, name := range entries {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, err
}
