package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/jc-lab/docker-cache-server/bench/house"
)

// figures prints what the code of a tree is: its rooms, its functions, its modules, and the size of its program.
func figures(w io.Writer, root string) error {
	rooms, err := house.Read(root, house.Product...)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "room\tfiles\tlines\tcode\tcomments\t% of code\tfunctions\tmedian\tp90\tmax\ttest lines\t")
	for _, r := range append(rooms, house.Sum(rooms)) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%.1f\t%d\t%d\t%d\t%d\t%d\t\n", r.Name, r.Files, r.Lines, r.Code, r.Comments,
			100*r.Share(), len(r.Functions), r.Quantile(0.5).Lines, r.Quantile(0.9).Lines, r.Quantile(1).Lines, r.Tests)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	direct, indirect, err := modules(root)
	if err != nil {
		return err
	}
	size, err := binarySize(root)
	if err != nil {
		return err
	}
	longest := house.Sum(rooms).Quantile(1)
	_, err = fmt.Fprintf(w, "longest function: %s, %d lines\nmodules: %d direct, %d indirect\nbin/dcs: %d bytes\n",
		longest.Name, longest.Lines, direct, indirect, size)
	return err
}

// modules counts what go.mod requires.
func modules(root string) (direct, indirect int, err error) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("go mod edit: %w", err)
	}
	var mod struct{ Require []struct{ Indirect bool } }
	if err := json.Unmarshal(out, &mod); err != nil {
		return 0, 0, fmt.Errorf("go mod edit: %w", err)
	}
	for _, r := range mod.Require {
		if r.Indirect {
			indirect++
		} else {
			direct++
		}
	}
	return direct, indirect, nil
}

// binarySize builds dcs as make does, and returns its bytes.
func binarySize(root string) (int64, error) {
	dir, err := os.MkdirTemp("", "figures-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "dcs")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/dcs")
	cmd.Dir, cmd.Stderr, cmd.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("go build: %w", err)
	}
	fi, err := os.Stat(program)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
