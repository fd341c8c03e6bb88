package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// listFlags are the flags of dcs inspect that choose rows. They do not apply to one image.
var listFlags = []string{"images", "tags", "sort", "reverse", "limit", "repository", "histogram", "expiring"}

// atMostOne allows one argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Errorf("unexpected argument %q", args[1]), "dcs inspect shows one image at a time"}
	}
	return nil
}

// inspectImage shows one image as a tree.
func inspectImage(env *environment, cmd *cobra.Command, name, format string) error {
	ref, err := imageReference(cmd, name, format)
	if err != nil {
		return err
	}
	source, err := newSource(env, cmd)
	if err != nil {
		return err
	}
	return source.Image(cmd.Context(), ref, newOutput(env, format), ui.BranchesFor(env.get))
}

// imageReference parses the name of an image, and refuses flags that apply to lists only.
func imageReference(cmd *cobra.Command, name, format string) (ref inspect.Reference, err error) {
	for _, flag := range append([]string{"check", "deep"}, listFlags...) {
		if cmd.Flags().Changed(flag) {
			return ref, &usageError{fmt.Errorf("--%s cannot be combined with an image", flag),
				"leave it out, or leave out " + name}
		}
	}
	if format == string(inspect.CSV) {
		return ref, &usageError{errors.New("--format csv cannot be combined with an image: a tree has no rows"),
			"use --format json: the image is one object"}
	}
	if err := oneOf("format", format, string(inspect.Table), string(inspect.JSON)); err != nil {
		return ref, err
	}
	ref, err = inspect.ParseReference(name)
	if err != nil {
		return ref, &usageError{err: err}
	}
	return ref, nil
}
