package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Promise makes a policy the one of this server. Other processes read it in the index, and in a file when the index is
// lost. The file is durable when Promise returns, unless the disk is full: then there is none, and the log says so.
func (s *Served) Promise(ctx context.Context, p index.Policy) error {
	switch err := writePolicy(s.Dir, p); {
	case isFull(err):
		s.log.WithError(err).Warn("if the index is lost, the next clean-up does not know this policy")
	case err != nil:
		return err
	}
	return s.Index.Promise(ctx, p)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// writePolicy writes nothing if the file says the same. On a full disk it removes an older policy, by which a gc would
// go when the index is lost.
func writePolicy(d tree.Dir, p index.Policy) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := disk.ReadFile(d.Policy()); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := disk.WriteFile(d.Policy(), data, 0o644); err != nil {
		if isFull(err) {
			err = errors.Join(err, os.RemoveAll(d.Policy()))
		}
		return fmt.Errorf("write down the policy of the server: %w", err)
	}
	return nil
}

// promised returns what Index.Promised does. Without an index, or of one that no server joined, as after one was lost,
// it returns what the last server wrote to the file; what that still owes is not known.
func (s *Store) promised(ctx context.Context) (last, owed index.Policy, ok bool, err error) {
	if s.Index != nil {
		last, owed, ok, err = s.Index.Promised(ctx)
	}
	if ok || err != nil {
		return last, owed, ok, err
	}
	data, err := disk.ReadFile(s.Dir.Policy())
	if errors.Is(err, fs.ErrNotExist) {
		return last, owed, false, nil
	}
	if err == nil {
		last, err = parsePolicy(data)
	}
	if err != nil {
		return last, owed, false, &PolicyError{File: s.Dir.Policy(), Err: err}
	}
	return last, owed, true, nil
}

// parsePolicy refuses what this version does not know: a rule without a part of it would match more.
func parsePolicy(data []byte) (p index.Policy, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err = d.Decode(&p); err == nil && d.More() {
		err = errors.New("there is more behind the policy")
	}
	return p, err
}

// PolicyError says that it is not known by which policy images expire. A gc removes nothing then.
type PolicyError struct {
	File string // where the last server wrote its policy
	Err  error  // why it cannot be read; nil: there is no such file
}

func (e *PolicyError) Error() string {
	if e.Err == nil {
		return "neither the index nor " + e.File + " says for how long images stay"
	}
	return fmt.Sprintf("%s cannot be read: %v", e.File, e.Err)
}

// Unwrap is for errors.As.
func (e *PolicyError) Unwrap() error { return e.Err }
