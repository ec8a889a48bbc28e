package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// fields are the keys that mean something to a reader. encoding/json matches them in any case, other readers do not,
// so any other spelling is refused where it would count.
var fields = map[string]string{
	"schemaversion": "schemaVersion", "mediatype": "mediaType", "artifacttype": "artifactType", "config": "config",
	"layers": "layers", "manifests": "manifests", "subject": "subject", "annotations": "annotations",
	"fslayers": "fsLayers", "digest": "digest", "size": "size", "urls": "urls", "platform": "platform",
}

// checkJSON refuses what JSON readers may silently resolve each their own way: duplicate keys, keys in another case,
// trailing data, and nesting deeper than maxDepth.
func checkJSON(body []byte) error {
	type level struct {
		keys    map[string]bool // nil in an array
		wantKey bool
		key     string // the last one
		free    bool   // inside annotations: keys are the user's
	}
	var stack []level
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	started := false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) && started && len(stack) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the manifest is not JSON: %s", jsonProblem(err))
		}
		if started && len(stack) == 0 {
			return errors.New("the manifest is not JSON: more than one value")
		}
		delim, isDelim := tok.(json.Delim)
		if !started && delim != '{' {
			return errors.New("the manifest is not a JSON object")
		}
		started = true
		if isDelim && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if n := len(stack); n > 0 && stack[n-1].keys != nil {
			top := &stack[n-1]
			if top.wantKey {
				key, _ := tok.(string)
				if top.keys[key] {
					return fmt.Errorf("the manifest has the key %q twice in one object", truncate(key))
				}
				if exact, ok := fields[strings.ToLower(key)]; ok && exact != key && !top.free {
					return fmt.Errorf("the manifest has the key %q, which must be written %q", truncate(key), exact)
				}
				top.keys[key], top.key, top.wantKey = true, key, false
				continue
			}
			top.wantKey = true
		}
		switch {
		case isDelim && len(stack) == maxDepth:
			return fmt.Errorf("the manifest is nested deeper than %d levels", maxDepth)
		case isDelim:
			next := level{}
			if n := len(stack); n > 0 {
				next.free = stack[n-1].free || stack[n-1].key == "annotations"
			}
			if delim == '{' {
				next.keys, next.wantKey = map[string]bool{}, true
			}
			stack = append(stack, next)
		}
	}
}

// jsonProblem says what is wrong without quoting the input.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("syntax error at byte %d", syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Sprintf("%s cannot be a %s", typ.Field, typ.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	}
	return "malformed value"
}
