package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// flagsOf returns the flags of a command as they are written: its own, --help last, and --config with the keys of the
// configuration that it uses, in the order of the documentation. Hidden flags are left out.
func flagsOf(cmd *cobra.Command) (own, configuration *pflag.FlagSet) {
	own, configuration = new(pflag.FlagSet), new(pflag.FlagSet)
	own.SortFlags, configuration.SortFlags = false, false
	cmd.InitDefaultHelpFlag()
	known := append([]string{"config"}, config.Keys()...)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden && !slices.Contains(known, f.Name) {
			own.AddFlag(asWritten(f))
		}
	})
	own.AddFlag(asWritten(cmd.Flags().Lookup("help")))
	for _, name := range known {
		if f := cmd.Flags().Lookup(name); f != nil && !f.Hidden {
			configuration.AddFlag(asWritten(f))
		}
	}
	return own, configuration
}

// asWritten returns a copy of a flag that pflag prints as it is written: --dry-run, --config FILE,
// --log.access[=false]. pflag takes the type of a value for its name.
func asWritten(f *pflag.Flag) *pflag.Flag {
	quoted, usage := quotedName(f)
	written := *f
	written.Value = namedValue{f.Value, valueName(f)}
	written.Usage = strings.TrimSuffix(usage, ": "+quoted) // the name says it
	if f.Shorthand != "" {                                 // so that all flags begin in one column
		written.Shorthand, written.Usage = "", usage+" (-"+f.Shorthand+")"
	}
	written.NoOptDefVal = ""
	if isSwitch(f) && f.DefValue == "true" {
		written.NoOptDefVal = "false" // on its own the flag would change nothing
	}
	return &written
}

// namedValue is a value whose type is the name of the value.
type namedValue struct {
	pflag.Value
	name string
}

// Type implements pflag.Value.
func (v namedValue) Type() string { return v.name }

// isSwitch tells whether a flag needs no value.
func isSwitch(f *pflag.Flag) bool { return f.Value.Type() == "bool" }

// valueName names the value of a flag: what its usage has in back quotes, the words that it takes, or its type. The
// type string says nothing, so the name of the flag is used then. A switch has no value.
func valueName(f *pflag.Flag) string {
	quoted, _ := quotedName(f)
	switch {
	case isSwitch(f):
		return ""
	case strings.Contains(quoted, "|"):
		return quoted
	case quoted != "":
		return strings.ToUpper(quoted)
	case len(f.Annotations[valuesAnnotation]) > 0:
		return strings.Join(f.Annotations[valuesAnnotation], "|")
	}
	switch t := f.Value.Type(); t {
	case "string":
		return strings.ToUpper(f.Name)
	case "int":
		return "N"
	default:
		return strings.ToUpper(t)
	}
}

// quotedName returns the name that a usage has in back quotes, if any, and the usage without them.
func quotedName(f *pflag.Flag) (name, usage string) {
	if strings.Count(f.Usage, "`") < 2 {
		return "", f.Usage
	}
	return pflag.UnquoteUsage(f)
}
