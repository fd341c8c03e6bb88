package users

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// File is an htpasswd file. Any number of goroutines and processes may edit it at the same time; no edit is lost.
type File struct {
	path string
	// patience is how long an edit waits for the lock. 10s: an edit takes milliseconds, so a process that holds the
	// lock for longer is stuck, and the operator should hear of it.
	patience time.Duration
}

// Path returns where the htpasswd file is: at the path that the operator chose, or at the default in the data
// directory.
func Path(chosen string, dir tree.Dir) string { return cmp.Or(chosen, dir.Htpasswd()) }

// Open names the file. It does not look at the disk: a missing file is one without users.
func Open(path string) *File {
	return &File{path: path, patience: 10 * time.Second}
}

// Add gives name this password, and reports whether it had one before. cost is bcrypt's, 4 to 31; 0 is its default, 10.
//
// The directory must exist, or the error wraps os.ErrNotExist. Only a ".metadata" is made in an existing directory, so
// that the first user can be added before the first start of the server.
func (f *File) Add(name, password string, cost int) (replaced bool, err error) {
	hash, err := f.prepare(name, password, cost)
	if err != nil {
		return false, fmt.Errorf("add user %q: %w", name, err)
	}
	err = f.edit(func(t table) (table, error) {
		t, replaced = t.set(name, hash)
		return t, nil
	})
	if err != nil {
		return false, fmt.Errorf("add user %q: %w", name, err)
	}
	return replaced, nil
}

// prepare does what needs no lock: it refuses what the file cannot hold, and hashes the password.
func (f *File) prepare(name, password string, cost int) (hash string, err error) {
	if err := credential.CheckName(name); err != nil {
		return "", fmt.Errorf("user name %w", err)
	}
	if err := credential.CheckPassword(password); err != nil {
		return "", fmt.Errorf("password %w", err)
	}
	if err := ensureDir(filepath.Dir(f.path)); err != nil {
		return "", err
	}
	return newHash(password, cost)
}

func newHash(password string, cost int) (string, error) {
	if cost == 0 {
		cost = bcrypt.DefaultCost
	}
	if cost < bcrypt.MinCost { // bcrypt itself would take its default and not say so
		return "", bcrypt.InvalidCostError(cost)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", err
	}
	// The algorithm of $2y$ is the same, and its name is clearer. crypt_blowfish, which Apache uses, treats some
	// passwords with bytes above 127 differently under $2a$, as a guard against an old bug of its own.
	return "$2y$" + string(hash[len("$2a$"):]), nil
}

// Remove takes name out of the file. The error wraps ErrNotFound when the file does not have it.
func (f *File) Remove(name string) error {
	if _, err := os.Stat(f.path); errors.Is(err, os.ErrNotExist) { // make no lock file beside a missing file
		return fmt.Errorf("remove user %q: %w", name, ErrNotFound)
	}
	err := f.edit(func(t table) (table, error) {
		t, found := t.remove(name)
		if !found {
			return nil, ErrNotFound
		}
		return t, nil
	})
	if err != nil {
		return fmt.Errorf("remove user %q: %w", name, err)
	}
	return nil
}

// Check returns an error that wraps os.ErrNotExist when the directory of the file is missing: then the path is a
// mistake. A missing file is one without users.
func (f *File) Check() error {
	dir := filepath.Dir(f.path)
	err := checkDir(dir)
	if errors.Is(err, os.ErrNotExist) && isMetadata(dir) {
		err = checkDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("users file %s: %w", f.path, err)
	}
	return nil
}

// Path returns where the file is.
func (f *File) Path() string { return f.path }

// Home returns the directory whose owner the file is for: the data directory of a file in its .metadata, else the
// directory of the file.
func (f *File) Home() string {
	dir := filepath.Dir(f.path)
	if isMetadata(dir) {
		return filepath.Dir(dir)
	}
	return dir
}

// List returns the names in the order of the file, each once. A missing file has none.
func (f *File) List() ([]string, error) {
	t, err := readTable(f.path, disk.Open)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return t.names(), nil
}

// edit replaces the file by what change makes of it, while no other edit can.
func (f *File) edit(change func(table) (table, error)) error {
	path := target(f.path)
	unlock, err := lockFile(path+".lock", f.patience)
	if err != nil {
		return err
	}
	defer unlock()

	t, err := readTable(path, disk.OpenNoFollow) // it may have become a link since target looked
	if err != nil {
		return err
	}
	if t, err = change(t); err != nil {
		return err
	}
	if err := disk.WriteFile(path, []byte(t.text()), 0o600); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// target follows a symbolic link, so that an edit replaces the file and not the link, and all edits take the same lock.
func target(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func readTable(path string, open func(string) (*disk.File, error)) (table, error) {
	text, _, err := readFile(path, open)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(text), nil
}

// readFile returns the text, and the version that the file had just before it was read.
func readFile(path string, open func(string) (*disk.File, error)) (string, disk.Version, error) {
	file, err := open(path)
	if err != nil {
		return "", disk.Version{}, err
	}
	defer file.Close()
	text, err := file.ReadAll()
	return string(text), file.Version(), err
}
