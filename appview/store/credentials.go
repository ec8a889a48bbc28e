package store

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"atcr.io/operator/appview/config/names"
)

// postgres reads where the database is and who asks. No error holds a password.
func (o Options) postgres() (*pgxpool.Config, error) {
	uri, source := o.URL, names.DatabaseURL
	if o.Dir != "" {
		source = names.DatabaseDir
		var failed error
		var err error
		uri, err = names.DatabaseConnection(func(name string) []byte {
			b, err := os.ReadFile(filepath.Join(o.Dir, name))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				failed = err
			}
			return b
		})
		if err = errors.Join(failed, err); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", source, o.Dir, err)
		}
	}
	uri, err := o.withTLS(uri)
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(uri)
	if err != nil {
		// The parser's error quotes what it could not read, and part of that may be a password.
		return nil, fmt.Errorf("%s cannot be read; write postgres://user:password@host:5432/database?sslmode=verify-full, with special characters of the password percent-encoded", source)
	}
	if !strings.Contains(uri, "pool_max_conns=") {
		cfg.MaxConns = int32(max(10, 4*runtime.GOMAXPROCS(0)))
	}
	if o.MaxOpen > 0 {
		cfg.MaxConns = int32(o.MaxOpen)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 || cfg.ConnConfig.ConnectTimeout > connectLimit {
		cfg.ConnConfig.ConnectTimeout = connectLimit
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "atcr-appview"
	}
	return cfg, nil
}

// withTLS writes the options' TLS parameters over those of the URI.
func (o Options) withTLS(uri string) (string, error) {
	if o.SSLMode == "" && o.CAFile == "" {
		return uri, nil
	}
	if o.CAFile != "" {
		if _, err := os.Stat(o.CAFile); err != nil {
			return "", fmt.Errorf("%s: %w", names.DatabaseCAFile, err)
		}
	}
	place, query, _ := strings.Cut(uri, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", errors.New("the parameters of the database's URL cannot be read")
	}
	if o.SSLMode != "" {
		values.Set("sslmode", o.SSLMode)
	}
	if o.CAFile != "" {
		values.Set("sslrootcert", o.CAFile)
	}
	return place + "?" + values.Encode(), nil
}
