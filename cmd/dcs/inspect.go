package main

import "github.com/spf13/cobra"

func newInspectCommand(env *environment) *cobra.Command { return &cobra.Command{Use: "inspect"} }
