package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
)

// errConfig marks what config.Load found.
var errConfig = errors.New("see atcr-appview --help for every variable, or run atcr-appview config check")

// lastWord says in few words why the server ends, without anything that was configured.
func lastWord(err error) names.Termination {
	var newer *store.NewerSchema
	switch {
	case errors.As(err, &newer):
		return names.Termination{Reason: names.EndedSchemaTooNew, Have: newer.Have, Known: newer.Known}
	case errors.Is(err, store.ErrLocked):
		return names.Termination{Reason: names.EndedDatabaseLocked}
	case errors.Is(err, store.ErrRefused):
		return names.Termination{Reason: names.EndedDatabaseRefused}
	case errors.Is(err, store.ErrFull):
		return names.Termination{Reason: names.EndedDatabaseFull}
	case errors.Is(err, store.ErrUnavailable):
		return names.Termination{Reason: names.EndedDatabaseUnavailable}
	case errors.Is(err, errConfig):
		return names.Termination{Reason: names.EndedConfigInvalid}
	}
	return names.Termination{Reason: names.EndedFailed}
}

// leave writes the last word into the file at path, or nowhere when path is empty.
func leave(path string, err error) error {
	if path == "" || err == nil {
		return nil
	}
	b, merr := json.Marshal(lastWord(err))
	if merr == nil {
		merr = os.WriteFile(path, b, 0o644)
	}
	if merr != nil {
		return fmt.Errorf("%s: %w", names.TerminationLog, merr)
	}
	return nil
}
