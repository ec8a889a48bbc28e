package pds

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// RecordOf turns a struct with JSON tags into a record value, through the data model's JSON form.
func RecordOf(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the record: %w", err)
	}
	return ParseRecord(raw)
}

// ParseRecord reads a record's JSON form: $link, $bytes and blob objects become atdata values; floats are refused.
func ParseRecord(raw []byte) (map[string]any, error) {
	value, err := atdata.UnmarshalJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return value, nil
}

// prepared is a write that passed every check which needs no state.
type prepared struct {
	Write
	path  string
	block blocks.Block // nil for a delete
	blobs []atdata.Blob
}

func (e *Engine) prepare(w Write) (prepared, error) {
	p := prepared{Write: w}
	if _, err := syntax.ParseNSID(string(w.Collection)); err != nil {
		return p, fmt.Errorf("%w: collection %q: %w", ErrInvalidRecord, w.Collection, err)
	}
	if w.Op == Create && w.RKey == "" {
		p.RKey = syntax.RecordKey(e.tids.Next())
	}
	if _, err := syntax.ParseRecordKey(string(p.RKey)); err != nil {
		return p, fmt.Errorf("%w: record key %q: %w", ErrInvalidRecord, p.RKey, err)
	}
	p.path = string(p.Collection) + "/" + string(p.RKey)
	switch w.Op {
	case Delete:
		return p, nil
	case Create, Update, Put:
	default:
		return p, fmt.Errorf("%w: unknown operation %d", ErrInvalidRecord, w.Op)
	}

	value, err := typed(w.Value, w.Collection)
	if err != nil {
		return p, err
	}
	if err := checkValue(value, 0); err != nil {
		return p, fmt.Errorf("%w: %s: %w", ErrInvalidRecord, p.path, err)
	}
	raw, err := atdata.MarshalCBOR(value)
	if err != nil {
		return p, fmt.Errorf("%w: %s: %w", ErrInvalidRecord, p.path, err)
	}
	if len(raw) > atdata.MAX_CBOR_RECORD_SIZE {
		return p, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalidRecord, p.path, len(raw), atdata.MAX_CBOR_RECORD_SIZE)
	}
	p.block, err = cborBlock(raw)
	p.blobs = atdata.ExtractBlobs(value)
	return p, err
}

// typed returns the value with its $type, which must be the collection.
func typed(value map[string]any, collection syntax.NSID) (map[string]any, error) {
	switch t := value["$type"].(type) {
	case nil:
		out := make(map[string]any, len(value)+1)
		for k, v := range value {
			out[k] = v
		}
		out["$type"] = string(collection)
		return out, nil
	case string:
		if t == string(collection) {
			return value, nil
		}
		return nil, fmt.Errorf("%w: invalid $type: expected %s, got %s", ErrInvalidRecord, collection, t)
	default:
		return nil, fmt.Errorf("%w: $type is not a string", ErrInvalidRecord)
	}
}

// checkValue refuses what has no single encoding in the data model, so that what is read is what was written.
func checkValue(v any, depth int) error {
	if depth > atdata.MAX_CBOR_NESTED_LEVELS {
		return fmt.Errorf("nested deeper than %d levels", atdata.MAX_CBOR_NESTED_LEVELS)
	}
	switch v := v.(type) {
	case nil, bool, atdata.Bytes:
		return nil
	case int:
		return checkInteger(int64(v))
	case int64:
		return checkInteger(v)
	case float32, float64:
		return fmt.Errorf("floating point numbers are not allowed")
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("a string is not UTF-8")
		}
		return nil
	case atdata.CIDLink:
		if !v.IsDefined() {
			return fmt.Errorf("a link has no CID")
		}
		return nil
	case atdata.Blob:
		if v.Size < 0 || !v.Ref.IsDefined() {
			return fmt.Errorf("legacy blob references are not allowed")
		}
		return nil
	case []any:
		for _, item := range v {
			if err := checkValue(item, depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for k, item := range v {
			if k == "$link" || k == "$bytes" {
				return fmt.Errorf("the key %s belongs to links and bytes", k)
			}
			if !utf8.ValidString(k) {
				return fmt.Errorf("a key is not UTF-8")
			}
			if err := checkValue(item, depth+1); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("values of type %T are not in the data model", v)
	}
}

// maxInteger is the largest that every reader of JSON keeps exact.
const maxInteger = 1<<53 - 1

func checkInteger(n int64) error {
	if n > maxInteger || n < -maxInteger {
		return fmt.Errorf("integers have at most 53 bits")
	}
	return nil
}

func cborBlock(raw []byte) (blocks.Block, error) {
	c, err := cid.NewPrefixV1(cid.DagCBOR, multihash.SHA2_256).Sum(raw)
	if err != nil {
		return nil, fmt.Errorf("hash a block: %w", err)
	}
	return blocks.NewBlockWithCid(raw, c)
}

func recordURI(did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) syntax.ATURI {
	return syntax.ATURI("at://" + string(did) + "/" + string(collection) + "/" + string(rkey))
}
