package names

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAConnectionIsTheURIOrItsParts(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // empty: an error that says
		says  string
	}{
		"a URI":                   {map[string]string{"uri": "postgresql://u:p@h:5432/d\n"}, "postgresql://u:p@h:5432/d", ""},
		"a URI and parts":         {map[string]string{"uri": "postgres://u:p@h/d", "host": "other", "dbname": "e", "username": "v"}, "postgres://u:p@h/d", ""},
		"several hosts":           {map[string]string{"uri": "postgres://u:p@h1:5432,h2:5433/d"}, "postgres://u:p@h1:5432,h2:5433/d", ""},
		"parts":                   {map[string]string{"host": "h", "port": "6432", "dbname": "d", "username": "u", "password": "p"}, "postgres://u:p@h:6432/d", ""},
		"parts without a port":    {map[string]string{"host": "h", "dbname": "d", "username": "u", "password": "p"}, "postgres://u:p@h/d", ""},
		"an address of version 6": {map[string]string{"host": "fd00::1", "port": "5432", "dbname": "d", "username": "u"}, "postgres://u@[fd00::1]:5432/d", ""},
		"a password with signs":   {map[string]string{"host": "h", "dbname": "d", "username": "u", "password": " p@s/:%? \n"}, "postgres://u:%20p%40s%2F%3A%25%3F%20@h/d", ""},
		"nothing":                 {nil, "", "neither uri nor host"},
		"no database":             {map[string]string{"host": "h", "username": "u"}, "", "neither uri nor dbname"},
		"no user":                 {map[string]string{"host": "h", "dbname": "d"}, "", "neither uri nor username"},
		"a port that is none":     {map[string]string{"host": "h", "port": "s3cret", "dbname": "d", "username": "u"}, "", "no address"},
		"another database":        {map[string]string{"uri": "mysql://u:s3cret@h/d"}, "", "want postgres://"},
		"a password in the way":   {map[string]string{"uri": "postgres://u:s3cret%zz@h/d"}, "", "percent-encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DatabaseConnection(func(file string) []byte { return []byte(c.files[file]) })
			if c.want != "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestThePlaceOfADatabaseHoldsNoUser(t *testing.T) {
	for uri, want := range map[string]string{
		"postgres://u:p@h:5432/d?sslmode=require": "postgres://h:5432/d?sslmode=require",
		"postgres://u:p@x@h1,h2/d":                "postgres://h1,h2/d",
		"postgres://h/d?options=a@b":              "postgres://h/d?options=a@b",
		"postgres://u@h":                          "postgres://h",
	} {
		require.Equal(t, want, DatabasePlace(uri))
	}
}
