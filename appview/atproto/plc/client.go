package plc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

var (
	// ErrNotRegistered: the directory does not know the DID.
	ErrNotRegistered = errors.New("the PLC directory does not know the DID")
	// ErrRefused: the directory does not take the operation; trying again does not help.
	ErrRefused = errors.New("the PLC directory refused the operation")
	// ErrUnavailable: the directory cannot be reached, or fails; trying again later may help.
	ErrUnavailable = errors.New("the PLC directory is unavailable")
)

const (
	maxAnswerBytes = 64 << 10
	callTimeout    = 15 * time.Second
)

// Client speaks to one PLC directory.
type Client struct {
	URL  string // e.g. https://plc.directory
	HTTP *http.Client
}

// Last is the latest operation of a DID (ErrNotRegistered, ErrUnavailable).
func (c Client) Last(ctx context.Context, did syntax.DID) (Operation, error) {
	status, body, err := c.call(ctx, http.MethodGet, did.String()+"/log/last", nil)
	switch {
	case err != nil:
		return Operation{}, err
	case status == http.StatusNotFound:
		return Operation{}, fmt.Errorf("%w: %s", ErrNotRegistered, did)
	case status != http.StatusOK:
		return Operation{}, fmt.Errorf("%w: it answers %d for %s", ErrUnavailable, status, did)
	}
	var op Operation
	if err := json.Unmarshal(body, &op); err != nil {
		return Operation{}, fmt.Errorf("%w: its answer for %s is no operation", ErrUnavailable, did)
	}
	if op.Type != TypeOperation {
		return Operation{}, fmt.Errorf("the latest operation of %s is a %.40q, not a %s", did, op.Type, TypeOperation)
	}
	return op, nil
}

// Submit adds an operation to the log of a DID (ErrRefused, ErrUnavailable).
func (c Client) Submit(ctx context.Context, did syntax.DID, op Operation) error {
	raw, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode a PLC operation: %w", err)
	}
	status, _, err := c.call(ctx, http.MethodPost, did.String(), raw)
	switch {
	case err != nil:
		return err
	case status < 300:
		return nil
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return fmt.Errorf("%w: it answers %d", ErrUnavailable, status)
	}
	return fmt.Errorf("%w: it answers %d", ErrRefused, status)
}

func (c Client) call(ctx context.Context, method, path string, in []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+"/"+path, bytes.NewReader(in))
	if err != nil {
		return 0, nil, fmt.Errorf("ask the PLC directory: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: its answer ended early: %w", ErrUnavailable, err)
	}
	if len(body) > maxAnswerBytes {
		return 0, nil, fmt.Errorf("%w: its answer is larger than %d bytes", ErrUnavailable, maxAnswerBytes)
	}
	return resp.StatusCode, body, nil
}
