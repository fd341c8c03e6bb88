package layout

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Repositories calls f with each repository that has anything, in the order of the directories. A
// directory that vanishes meanwhile is passed over, in this and the other walks.
func (d Dir) Repositories(ctx context.Context, f func(name string) error) error {
	return d.repositories(ctx, "", f)
}

func (d Dir) repositories(ctx context.Context, prefix string, f func(string) error) error {
	names, err := list(d.Native(repositories + "/" + prefix))
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasPrefix(name, "_") {
			found = true
			continue
		}
		if err := d.repositories(ctx, prefix+name+"/", f); err != nil {
			return err
		}
	}
	if name := strings.TrimSuffix(prefix, "/"); found && ValidName(name) {
		return f(name)
	}
	return nil
}

// Blobs calls f with each blob that has a directory.
func (d Dir) Blobs(ctx context.Context, f func(digest.Digest) error) error {
	return eachDir(ctx, d.File(Path{Kind: BlobsDir}), 3, func(parts []string) error {
		p, ok := parseBlob(parts)
		if !ok {
			return nil
		}
		return f(p.Digest)
	})
}

// BlobsLike calls f with each blob that has a directory and whose digest begins like this: with its algorithm and at
// least two characters of its sum, which name the only directory that is read.
func (d Dir) BlobsLike(ctx context.Context, start string, f func(digest.Digest) error) error {
	algorithm, sum, _ := strings.Cut(start, ":")
	if len(sum) < 2 {
		return nil
	}
	return eachDir(ctx, d.File(Path{Kind: BlobsDir})+"/"+algorithm+"/"+sum[:2], 1, func(parts []string) error {
		p, ok := parseBlob([]string{algorithm, sum[:2], parts[0]})
		if !ok || !strings.HasPrefix(p.Digest.String(), start) {
			return nil
		}
		return f(p.Digest)
	})
}

// Links calls f with each digest that has a directory in the LayersDir or the RevisionsDir of a repository.
func (d Dir) Links(ctx context.Context, kind Kind, repo string, f func(digest.Digest) error) error {
	return eachDir(ctx, d.File(Path{Kind: kind, Repository: repo}), 2, func(parts []string) error {
		dgst, ok := parseDigest(parts[0], parts[1])
		if !ok {
			return nil
		}
		return f(dgst)
	})
}

// Tags calls f with each tag that has a directory in a repository.
func (d Dir) Tags(ctx context.Context, repo string, f func(tag string) error) error {
	return eachDir(ctx, d.File(Path{Kind: TagsDir, Repository: repo}), 1, func(parts []string) error {
		if !ValidTag(parts[0]) {
			return nil
		}
		return f(parts[0])
	})
}

// Uploads calls f with each upload of a repository that is not finished.
func (d Dir) Uploads(ctx context.Context, repo string, f func(id string) error) error {
	return eachDir(ctx, d.File(Path{Kind: UploadsDir, Repository: repo}), 1, func(parts []string) error {
		if !uploadID.MatchString(parts[0]) {
			return nil
		}
		return f(parts[0])
	})
}

// eachDir calls f with the components below dir of each directory that is depth levels down.
func eachDir(ctx context.Context, dir string, depth int, f func(parts []string) error, above ...string) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		parts := append(append([]string(nil), above...), name)
		if len(parts) == depth {
			err = f(parts)
		} else {
			err = eachDir(ctx, filepath.Join(dir, name), depth, f, parts...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list names the directories in dir; none when there is no such directory.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
