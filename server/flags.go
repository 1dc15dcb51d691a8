package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecretFile bounds what is read from the file of a secret: such files hold one line.
const maxSecretFile = 64 << 10

// environment is the process's environment, or a test's.
type environment map[string]string

func newEnvironment(lines []string) environment {
	env := make(environment, len(lines))
	for _, line := range lines {
		if name, text, found := strings.Cut(line, "="); found {
			env[name] = text
		}
	}
	return env
}

// commandFlags reads the command line of one subcommand: its own flags, and those settings that it uses.
type commandFlags struct {
	*flag.FlagSet
	synopsis string // what follows the program's name
	about    string
	settings []setting
	given    map[string]string // by environment name, what came as flags
}

// newFlags prepares a subcommand that uses these settings.
func newFlags(synopsis, about string, used []setting) *commandFlags {
	f := &commandFlags{
		FlagSet:  flag.NewFlagSet(synopsis, flag.ContinueOnError),
		synopsis: synopsis,
		about:    about,
		settings: used,
		given:    map[string]string{},
	}
	f.SetOutput(io.Discard) // run prints errors, in one line
	for _, s := range f.settings {
		f.take(s.flag(), s.name, s.into(&Config{}).kind() == boolValue{}.kind())
		if s.secret {
			f.take(s.flag()+"-file", s.name+"_FILE", false)
		}
	}
	return f
}

// take keeps a flag's text for later, because the package flag would repeat a malformed secret in its error.
func (f *commandFlags) take(name, envName string, isBool bool) {
	keep := func(text string) error { f.given[envName] = text; return nil }
	if isBool {
		f.BoolFunc(name, "", keep)
	} else {
		f.Func(name, "", keep)
	}
}

// parse returns the configuration and the arguments that are not flags, which may stand before, between or after them.
func (f *commandFlags) parse(args []string, env environment) (Config, []string, error) {
	var words []string
	for {
		if err := f.FlagSet.Parse(args); err != nil {
			return Config{}, nil, f.explain(err)
		}
		used := len(args) - f.NArg()
		if ended := used > 0 && args[used-1] == "--"; ended || f.NArg() == 0 {
			words = append(words, f.Args()...)
			break
		}
		words = append(words, f.Arg(0))
		args = f.Args()[1:]
	}
	c := defaultConfig()
	for _, s := range f.settings {
		if err := f.fill(&c, s, env); err != nil {
			return Config{}, nil, err
		}
	}
	if err := c.settle(); err != nil {
		return Config{}, nil, err
	}
	return c, words, nil
}

// parseOnly is parse for subcommands that take nothing but flags.
func (f *commandFlags) parseOnly(args []string, env environment) (Config, error) {
	c, words, err := f.parse(args, env)
	if err == nil && len(words) > 0 {
		err = usagef("unexpected argument %q; see rowcast %s --help", words[0], f.command())
	}
	return c, err
}

// command is how the subcommand is called: the words of the synopsis before its arguments.
func (f *commandFlags) command() string {
	var words []string
	for word := range strings.FieldsSeq(f.synopsis) {
		if strings.ContainsAny(word, "[-|<") || word == strings.ToUpper(word) {
			break
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (f *commandFlags) explain(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return helpAsked(f.help())
	}
	text := err.Error()
	for _, beginning := range []string{"flag provided but not defined: -", "flag needs an argument: -"} {
		if name, found := strings.CutPrefix(text, beginning); found {
			problem := "unknown flag"
			if strings.Contains(beginning, "needs") {
				problem = "no value for flag"
			}
			return usagef("%s --%s; see rowcast %s --help", problem, name, f.command())
		}
	}
	return usagef("%s; see rowcast %s --help", strings.Replace(text, " for flag -", " for flag --", 1), f.command())
}

// fill looks for a setting where it may be: first among the flags, then in the environment. In each, the text itself or
// the name of a file may stand, not both. An empty secret counts as not given, so that a file can take its place.
func (f *commandFlags) fill(c *Config, s setting, env environment) error {
	for _, from := range []struct {
		texts map[string]string
		label func(name string) string
	}{
		{f.given, func(name string) string { return "--" + strings.ReplaceAll(strings.ToLower(name), "_", "-") }},
		{env, func(name string) string { return name }},
	} {
		label := from.label(s.name)
		text, found := from.texts[s.name]
		if s.secret {
			found = text != ""
			if file := from.texts[s.name+"_FILE"]; file != "" {
				fileLabel := from.label(s.name + "_FILE")
				if found {
					return usagef("%s and %s are both set: keep one", label, fileLabel)
				}
				content, err := readSecretFile(file)
				if err != nil {
					return usagef("%s: %v", fileLabel, err)
				}
				text, label, found = content, fileLabel, true
			}
		}
		if !found {
			continue
		}
		if err := s.into(c).set(text); err != nil {
			if s.secret {
				return usagef("%s: %v", label, err)
			}
			return usagef("%s %q: %v", label, text, err)
		}
		return nil
	}
	return nil
}

func readSecretFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	switch text := strings.TrimRight(string(content), "\r\n"); {
	case err != nil:
		return "", err
	case len(content) > maxSecretFile:
		return "", fmt.Errorf("%s is longer than %d bytes", name, maxSecretFile)
	case text == "":
		return "", fmt.Errorf("%s is empty", name)
	default:
		return text, nil
	}
}

// help is what --help prints.
func (f *commandFlags) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: rowcast %s\n\n%s\n", f.synopsis, f.about)
	own := ""
	isSetting := map[string]bool{}
	for _, s := range f.settings {
		isSetting[s.flag()] = true
		isSetting[s.flag()+"-file"] = s.secret
	}
	f.VisitAll(func(one *flag.Flag) {
		if isSetting[one.Name] {
			return
		}
		kind, help := flag.UnquoteUsage(one)
		own += strings.TrimRight(fmt.Sprintf("  --%s %s", one.Name, kind), " ") + "\n      " + help + "\n"
	})
	if own != "" {
		b.WriteString("\nFlags:\n" + own)
	}
	if len(f.settings) > 0 {
		b.WriteString("\nSettings, each a flag or the environment variable in brackets; the flag wins:\n")
	}
	for _, s := range f.settings {
		fmt.Fprintf(&b, "  --%s %s [%s]\n      %s", s.flag(), s.into(&Config{}).kind(), s.name, s.help)
		if notes := s.notes(); notes != "" {
			fmt.Fprintf(&b, " (%s)", notes)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (s setting) notes() string {
	var notes []string
	if s.required {
		notes = append(notes, "required by a server")
	}
	if s.def != "" {
		notes = append(notes, "default "+s.def)
	}
	if s.limit && s.def != "0" {
		notes = append(notes, "0 lifts it")
	} else if s.limit {
		notes = append(notes, "no limit")
	}
	if s.secret {
		notes = append(notes, "or in a file: "+s.name+"_FILE")
	}
	return strings.Join(notes, "; ")
}
