package tree

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/opencontainers/go-digest"
)

// Walk visits a tree as a server does: through symbolic links. It passes over those that it may not follow, and over
// files that it cannot read; Refused and Unread name them. Its methods may be called one after another, in any order.
type Walk struct {
	dir      Dir
	symlinks *symlinks
	unread   map[string]Unread
}

// Unread is a file or directory that the system does not let us read.
type Unread struct {
	Path string
	// Repositories are those of which something may not have been seen: one by its name, or with a slash at the end
	// that one and all below it. Empty: none, since the path is one of the blobs.
	Repositories string
	Err          error
}

// Readable says whether it can be read now, or does not exist any more.
func (u Unread) Readable() bool {
	f, err := os.OpenFile(u.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO may have no writer
	if err != nil {
		return missing(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		_, err = f.ReadDir(1)
		return err == nil || errors.Is(err, io.EOF)
	}
	_, err = f.Read(make([]byte, 1))
	return err == nil || errors.Is(err, io.EOF)
}

// Walk begins a walk through the tree, of which there may be none.
func (d Dir) Walk() (*Walk, error) {
	s, err := newSymlinks(d)
	return &Walk{d, s, map[string]Unread{}}, err
}

// Refused is a *SymlinksError if a symbolic link was met that is not followed.
func (w *Walk) Refused() error { return w.symlinks.refusal() }

// Unread is what could not be read, in the order of paths.
func (w *Walk) Unread() []Unread {
	return slices.SortedFunc(maps.Values(w.unread), func(a, b Unread) int { return strings.Compare(a.Path, b.Path) })
}

// Pass remembers an error of one path, and passes over that path. It returns any other error.
func (w *Walk) Pass(repositories string, err error) error {
	var of *fs.PathError
	if !OfOnePath(err) || !errors.As(err, &of) {
		return err
	}
	w.unread[of.Path] = Unread{of.Path, repositories, err}
	return nil
}

// OfOnePath says whether an error is that of one path, so that another path need not fail as this one did.
func OfOnePath(err error) bool {
	return errors.As(err, new(*fs.PathError)) &&
		!errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ENOMEM)
}

// CheckSymlinks looks for symbolic links that cannot be followed in the upper levels of the tree, which takes little
// time: down to the first part of a repository's name, and to the 256 directories of the blobs. *SymlinksError.
func (d Dir) CheckSymlinks() error {
	w, err := d.Walk()
	if err != nil {
		return err
	}
	if _, err := w.names(d.Native(layout.Repositories), all, layout.ValidName); err != nil {
		return err
	}
	algorithms, err := w.names(d.Native(layout.Blobs), "", isAlgorithm)
	if err != nil {
		return err
	}
	for _, alg := range algorithms {
		if _, err := w.names(filepath.Join(d.Native(layout.Blobs), alg), "", isPrefix); err != nil {
			return err
		}
	}
	return w.Refused()
}

// Repositories calls f with each repository that has anything, in the order of the directories. This walk and the
// others pass over a directory that is removed before they come to it.
func (w *Walk) Repositories(ctx context.Context, f func(name string) error) error {
	if err := w.repositories(ctx, "", f); err != nil {
		return err
	}
	for _, u := range w.unread {
		if u.Repositories == all {
			return u.Err
		}
	}
	return nil
}

// all is the name of what may hide any repository. within names what is in a directory of such a name.
const all = "/"

func within(repositories, name string) string {
	if !strings.HasSuffix(repositories, "/") {
		return repositories
	}
	return strings.TrimPrefix(repositories+name+"/", "/")
}

func (w *Walk) repositories(ctx context.Context, prefix string, f func(string) error) error {
	found := false
	names, err := w.names(w.dir.Native(layout.Repositories+"/"+prefix), cmp.Or(prefix, all), func(name string) bool {
		found = found || strings.HasPrefix(name, "_")
		return layout.ValidName(prefix + name)
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.repositories(ctx, prefix+name+"/", f); err != nil {
			return err
		}
	}
	if found && prefix != "" {
		return f(strings.TrimSuffix(prefix, "/"))
	}
	return nil
}

// Blobs calls f with each blob that has a directory.
func (w *Walk) Blobs(ctx context.Context, f func(digest.Digest) error) error {
	rules := []func(string) bool{isAlgorithm, isPrefix, layout.IsHex}
	return w.below(ctx, w.dir.Native(layout.Blobs), "", rules, func(path string, parts []string) error {
		d, ok := layout.ParseBlobDir(strings.Join(parts, "/"))
		if !ok {
			return nil
		}
		return w.leaf(w.dir.File(layout.BlobKey(d).Path()), "", func() error { return f(d) })
	})
}

// BlobsLike calls f with each blob that has a directory and whose digest begins like this: with its algorithm and at
// least two characters of its sum, which name the only directory that is read.
func (w *Walk) BlobsLike(ctx context.Context, start string, f func(digest.Digest) error) error {
	algorithm, sum, _ := strings.Cut(start, ":")
	if len(sum) < 2 {
		return nil
	}
	dir := w.dir.Native(layout.Blobs + "/" + algorithm + "/" + sum[:2])
	return w.below(ctx, dir, "", []func(string) bool{layout.IsHex}, func(_ string, parts []string) error {
		d, ok := layout.NewDigest(algorithm, parts[0])
		if !ok || !strings.HasPrefix(d.String(), start) {
			return nil
		}
		return f(d)
	})
}

// Links calls f with each digest that has a directory among the layers of a repository, or with the kind Manifest among
// its manifests.
func (w *Walk) Links(ctx context.Context, kind layout.Kind, repo string, f func(digest.Digest) error) error {
	rules := []func(string) bool{isAlgorithm, layout.IsHex}
	return w.below(ctx, w.dir.Native(layout.LinksDir(kind, repo)), repo, rules,
		func(path string, parts []string) error {
			dgst, ok := layout.NewDigest(parts[0], parts[1])
			if !ok {
				return nil
			}
			return w.leaf(path+"/link", repo, func() error { return f(dgst) })
		})
}

// Tags calls f with each tag that has a directory in a repository.
func (w *Walk) Tags(ctx context.Context, repo string, f func(tag string) error) error {
	rules := []func(string) bool{layout.ValidTag}
	return w.below(ctx, w.dir.Native(layout.TagsDir(repo)), repo, rules, func(_ string, parts []string) error {
		link := w.dir.File(layout.TagKey(repo, parts[0]).Path())
		if in, err := w.enters(filepath.Dir(link), repo); !in || err != nil {
			return err
		}
		return w.leaf(link, repo, func() error { return f(parts[0]) })
	})
}

// Uploads calls f with each unfinished upload of a repository. Nil: only the way to them is looked at.
func (w *Walk) Uploads(ctx context.Context, repo string, f func(layout.Upload) error) error {
	top := w.dir.Native(layout.UploadsDir(repo))
	if f == nil {
		_, err := w.enters(top, repo)
		return err
	}
	rules := []func(string) bool{layout.ValidUpload}
	return w.below(ctx, top, repo, rules, func(_ string, parts []string) error {
		return f(layout.Upload{Repository: repo, ID: parts[0]})
	})
}

// Files calls f with each file of the tree, also if a symbolic link leads to it. What is neither a directory nor a file
// counts as an irregular file, and so does a symbolic link where a registry has nothing.
func (w *Walk) Files(ctx context.Context, f func(path string, regular bool) error) error {
	top := w.dir.Native(layout.Root)
	if in, err := w.enters(top, ""); !in || err != nil {
		return err
	}
	return w.filesIn(ctx, top, f)
}

func (w *Walk) filesIn(ctx context.Context, dir string, f func(string, bool) error) error {
	entries, err := w.read(dir, "")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, e.Name())
		v := verdict{directory: e.IsDir(), file: e.Type().IsRegular()}
		if e.Type()&fs.ModeSymlink != 0 && layout.Known(filepath.ToSlash(path[len(w.dir):])) {
			if v, err = w.follow(path, ""); err != nil {
				return err
			}
		}
		switch {
		case v.refused != nil:
		case v.directory:
			err = w.filesIn(ctx, path, f)
		default:
			err = f(path, v.file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below calls f with each directory that is so many levels below dir as there are rules for names.
func (w *Walk) below(ctx context.Context, dir, repo string, rules []func(string) bool,
	f func(path string, parts []string) error, above ...string) error {
	names, err := w.names(dir, repo, rules[len(above)])
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		parts := append(slices.Clone(above), name)
		if path := filepath.Join(dir, name); len(parts) == len(rules) {
			err = f(path, parts)
		} else {
			err = w.below(ctx, path, repo, rules, f, parts...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// names are those of the directories in dir that a rule accepts; none if dir does not exist.
func (w *Walk) names(dir, repo string, rule func(string) bool) (names []string, err error) {
	if in, err := w.enters(dir, repo); !in || err != nil {
		return nil, err
	}
	entries, err := w.read(dir, repo)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		in := e.IsDir()
		if symlink := e.Type()&fs.ModeSymlink != 0; !in && !symlink || !rule(e.Name()) {
			continue
		} else if symlink {
			v, err := w.follow(filepath.Join(dir, e.Name()), within(repo, e.Name()))
			if err != nil {
				return nil, err
			}
			in = v.directory
		}
		if in {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// read reads a directory as far as the system gives it out.
func (w *Walk) read(dir, repo string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !missing(err) {
		err = w.Pass(repo, err)
	} else {
		err = nil
	}
	return entries, err
}

// enters says whether the way to a directory of the tree may be followed. It looks up to the first directory that a
// walk has found in another one: those above it were looked at then.
func (w *Walk) enters(path, repo string) (bool, error) {
	for up := path; len(up) > len(w.dir); up = filepath.Dir(up) {
		fi, err := os.Lstat(up)
		if err != nil && !missing(err) {
			return false, w.Pass(repo, err)
		}
		if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			v, err := w.follow(up, repo)
			if err != nil || !v.directory {
				return false, err
			}
		}
		if base := filepath.Base(up); !only[base] {
			return true, nil
		}
	}
	return true, nil
}

// only are the directories that are opened by their names, and not found in another one.
var only = map[string]bool{"docker": true, "registry": true, "v2": true, "repositories": true, "blobs": true,
	"_layers": true, "_manifests": true, "revisions": true, "tags": true, "_uploads": true}

// leaf calls f unless the symbolic link at path cannot be read. Refused names one that may not be followed.
func (w *Walk) leaf(path, repo string, f func() error) error {
	fi, err := os.Lstat(path)
	if err != nil && !missing(err) {
		return w.Pass(repo, err)
	}
	if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		if _, err := w.follow(path, repo); err != nil {
			return err
		}
	}
	return f()
}

func (w *Walk) follow(path, repo string) (verdict, error) {
	v, err := w.symlinks.judge(path)
	if err != nil {
		err = w.Pass(repo, err)
	}
	return v, err
}

// missing says that a path does not exist for a server.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func isAlgorithm(name string) bool { return digest.Algorithm(name).Available() }

func isPrefix(name string) bool { return len(name) == 2 && layout.IsHex(name) }
