package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// ErrFile says that a configuration file cannot be used. The message says where and why.
var ErrFile = errors.New("configuration file")

// File is a flat YAML mapping from flag names (without dashes in front) to values. It stands below the command
// line and the environment. It implements kong.Resolver.
type File struct {
	path   string
	values map[string]any
}

var _ kong.Resolver = (*File)(nil)

// Load reads the file at path. A key written twice, or a value that is a mapping, is refused.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	f := &File{path: path}
	if err := yaml.Unmarshal(data, &f.values); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrFile, path, err)
	}
	return f, nil
}

// Validate refuses keys that are no flag of any command, so that a misspelled limit is not silently none.
func (f *File) Validate(app *kong.Application) error {
	known := flagNames(app.Node, nil)
	for key := range f.values {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%w %s: %q is no flag of any command", ErrFile, f.path, key)
		}
	}
	return nil
}

// Resolve returns the file's value for a flag, or nil: when it names none, or when the environment does.
func (f *File) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if fromEnvironment(flag) {
		return nil, nil //nolint:nilnil // kong's way to say "not here"
	}
	v, ok := f.values[flag.Name]
	if !ok {
		return nil, nil //nolint:nilnil // likewise
	}
	s, err := scalar(v)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrFile, f.path, err)
	}
	return s, nil
}

func fromEnvironment(flag *kong.Flag) bool {
	return slices.ContainsFunc(flag.Envs, func(name string) bool {
		_, ok := os.LookupEnv(name)
		return ok
	})
}

func flagNames(n *kong.Node, names []string) []string {
	for _, flag := range n.Flags {
		names = append(names, flag.Name)
	}
	for _, child := range n.Children {
		names = flagNames(child, names)
	}
	return names
}

// scalar turns a YAML value into what one would have typed after the flag.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("a key without a value")
	case map[string]any:
		return "", errors.New("a mapping where a value should be")
	case []any:
		parts := make([]string, 0, len(v))
		for _, item := range v {
			s, err := scalar(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), nil
	default:
		return fmt.Sprint(v), nil
	}
}
