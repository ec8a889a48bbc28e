package peers_test

import (
	"log/slog"
	"os"
	"testing"
)

// indigo tells each first commit of a repository through the default logger.
func TestMain(m *testing.M) {
	slog.SetDefault(logger())
	os.Exit(m.Run())
}
