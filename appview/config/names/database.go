package names

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Files in [DatabaseDir]: the URI, or its parts. They have the names that CloudNativePG gives the entries of its
// application Secrets.
const (
	FileDatabaseURI      = "uri" // postgres://user:password@host/database; with it the others are not read
	FileDatabaseHost     = "host"
	FileDatabasePort     = "port" // 5432 when missing
	FileDatabaseName     = "dbname"
	FileDatabaseUser     = "username"
	FileDatabasePassword = "password"
	FileDatabaseCA       = "ca.crt" // in a directory of its own: PEM certificates
)

// DatabaseFiles are the file names that [DatabaseConnection] asks for.
var DatabaseFiles = []string{
	FileDatabaseURI, FileDatabaseHost, FileDatabasePort, FileDatabaseName, FileDatabaseUser, FileDatabasePassword,
}

// SSLModes are the values of [DatabaseSSLMode], as libpq means them.
var SSLModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// DatabaseConnection is the URI that files make; file gives the content of one, or nothing. Space around a value and a
// line's end after a password are left out, as editors add them. No error repeats a value.
func DatabaseConnection(file func(name string) []byte) (string, error) {
	read := func(name string) string { return strings.TrimSpace(string(file(name))) }
	if uri := read(FileDatabaseURI); uri != "" {
		return uri, checkDatabaseURI(uri)
	}
	for _, name := range []string{FileDatabaseHost, FileDatabaseName, FileDatabaseUser} {
		if read(name) == "" {
			return "", fmt.Errorf("there is neither %s nor %s", FileDatabaseURI, name)
		}
	}
	u := url.URL{Scheme: "postgres", Host: read(FileDatabaseHost), Path: "/" + read(FileDatabaseName)}
	if port := read(FileDatabasePort); port != "" {
		u.Host = net.JoinHostPort(strings.Trim(u.Host, "[]"), port)
	}
	u.User = url.User(read(FileDatabaseUser))
	if password := strings.TrimRight(string(file(FileDatabasePassword)), "\r\n"); password != "" {
		u.User = url.UserPassword(u.User.Username(), password)
	}
	if _, err := url.Parse(u.String()); err != nil {
		return "", fmt.Errorf("%s and %s make no address", FileDatabaseHost, FileDatabasePort)
	}
	return u.String(), nil
}

func checkDatabaseURI(uri string) error {
	if !strings.HasPrefix(uri, "postgres://") && !strings.HasPrefix(uri, "postgresql://") {
		return errors.New("want postgres://user:password@host:5432/database")
	}
	if strings.Contains(DatabasePlace(uri), ",") {
		return nil // several hosts: more than net/url reads
	}
	if _, err := url.Parse(uri); err != nil {
		return errors.New("want postgres://user:password@host:5432/database, with special characters of the password percent-encoded")
	}
	return nil
}

// DatabasePlace is a URI without its user: what connections that are open must not differ in.
func DatabasePlace(uri string) string {
	scheme, rest, _ := strings.Cut(uri, "://")
	end := len(rest)
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		end = i
	}
	at := strings.LastIndex(rest[:end], "@")
	return scheme + "://" + rest[at+1:]
}
