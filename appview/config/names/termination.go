package names

import (
	"encoding/json"
	"slices"
)

// Termination is the server's last word, in the file that [TerminationLog] names: why it did not start. It holds nothing
// that was configured, so that it may be shown to whoever sees the pod.
type Termination struct {
	Reason string `json:"reason"` // one of the Ended constants
	// Schema versions, with EndedSchemaTooNew.
	Have  int64 `json:"have,omitempty"`
	Known int64 `json:"known,omitempty"`
}

// Why a server ended by itself.
const (
	EndedSchemaTooNew        = "SchemaTooNew"        // a newer release wrote the database
	EndedDatabaseUnavailable = "DatabaseUnavailable" // it does not answer
	EndedDatabaseRefused     = "DatabaseRefused"     // it answers, and takes neither user, password nor database
	EndedDatabaseFull        = "DatabaseFull"        // there is no room on the disk of the SQLite file
	EndedDatabaseLocked      = "DatabaseLocked"      // another server has the SQLite file
	EndedConfigInvalid       = "ConfigInvalid"       // a variable or a file cannot be read
	EndedFailed              = "Failed"              // the log says why
)

var ended = []string{EndedSchemaTooNew, EndedDatabaseUnavailable, EndedDatabaseRefused, EndedDatabaseFull, EndedDatabaseLocked, EndedConfigInvalid, EndedFailed}

// ParseTermination reads what a server left; false: it is no last word of ours.
func ParseTermination(message string) (Termination, bool) {
	var t Termination
	if err := json.Unmarshal([]byte(message), &t); err != nil || !slices.Contains(ended, t.Reason) {
		return Termination{}, false
	}
	return t, true
}
