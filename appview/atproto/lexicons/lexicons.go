// Package lexicons has the lexicon file of every io.atcr.* record that we write and every io.atcr.* method that we serve
// or call, in the newest published shape. Where we deviate, the file's description says so and why; our own fields and
// methods are marked "Ours" in theirs. The files are what the tests of all packages validate records against; nothing is
// validated at run time, since strangers' records of old shapes are read too.
package lexicons

import (
	"embed"
	"fmt"
	"sync"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/lexicon"
)

//go:embed *.json
var files embed.FS

// Catalog holds every lexicon of this folder.
var Catalog = sync.OnceValues(func() (*lexicon.BaseCatalog, error) {
	c := lexicon.NewBaseCatalog()
	if err := c.LoadEmbedFS(files); err != nil {
		return nil, fmt.Errorf("read the lexicons: %w", err)
	}
	return c, nil
})

// Validate checks the JSON of a record against the lexicon that its $type names, and gives that name.
func Validate(record []byte) (nsid string, err error) {
	value, err := atdata.UnmarshalJSON(record)
	if err != nil {
		return "", fmt.Errorf("the record is outside the atproto data model: %w", err)
	}
	nsid, _ = value["$type"].(string)
	c, err := Catalog()
	if err != nil {
		return nsid, err
	}
	if err := lexicon.ValidateRecord(c, value, nsid, 0); err != nil {
		return nsid, fmt.Errorf("%s: %w", nsid, err)
	}
	return nsid, nil
}
