package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"rowcast/server/protocol"
)

// Spec is a file of expectations: rows to begin with, cases, and changes after which there are other cases.
type Spec struct {
	Setup string `yaml:"setup"`
	Cases []Case `yaml:"cases"`
	Then  []Step `yaml:"then"`
}

// Step is a change, on top of all that came before it, and what is expected then.
type Step struct {
	After Lined  `yaml:"after"`
	Cases []Case `yaml:"cases"`
}

// Case is what somebody may and may not do on a topic.
type Case struct {
	Name      string         `yaml:"name"`
	As        Person         `yaml:"as"`
	Topic     Lined          `yaml:"topic"`
	Extension string         `yaml:"extension"` // "": broadcast
	Headers   map[string]any `yaml:"headers"`   // of the request that opened the socket
	May       []string       `yaml:"may"`
	MayNot    []string       `yaml:"may_not"`
}

// Person is who asks: what the token says.
type Person struct {
	Sub    string         `yaml:"sub"`
	Role   string         `yaml:"role"` // "": the claim role
	Claims map[string]any `yaml:"claims"`
}

// Lined is a text that knows its line.
type Lined struct {
	Text string
	Line int
}

// UnmarshalYAML takes a text, and nothing that only looks like one.
func (s *Lined) UnmarshalYAML(node *yaml.Node) error {
	s.Line = node.Line
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return fmt.Errorf("line %d: want a text", node.Line)
	}
	s.Text = node.Value
	return nil
}

// maxSpec bounds what is read: aliases can make much of little, and the parser bounds that by the size of the file.
const maxSpec = 1 << 20

// ParseSpec reads a file. What it does not know is an error.
func ParseSpec(text []byte) (*Spec, error) {
	if len(text) > maxSpec {
		return nil, fmt.Errorf("longer than %d bytes", maxSpec)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithKnownFields())
	if err != nil {
		return nil, err
	}
	var spec Spec
	if err := loader.Load(&spec); err != nil && err != io.EOF { // of an empty file
		return nil, err
	}
	if err := loader.Load(new(any)); err == nil {
		return nil, errors.New("a second document: there may be one")
	}
	count := 0
	for _, step := range spec.steps() {
		for i := range step.Cases {
			count++
			if err := step.Cases[i].check(); err != nil {
				return nil, fmt.Errorf("line %d: %w", step.Cases[i].Topic.Line, err)
			}
		}
	}
	if count == 0 {
		return nil, errors.New("there are no cases")
	}
	return &spec, nil
}

// steps begins with one that changes nothing.
func (s *Spec) steps() []Step { return append([]Step{{Cases: s.Cases}}, s.Then...) }

var (
	actions    = []string{"receive", "send"}
	extensions = []string{"broadcast", "presence"}
)

func (c *Case) check() error {
	if c.Topic.Text == "" {
		return fmt.Errorf("case %q has no topic", c.Name)
	}
	if name, wire := strings.CutPrefix(c.Topic.Text, protocol.TopicPrefix); wire {
		return fmt.Errorf("the topic %q begins with realtime:, which policies do not see; write %q", c.Topic.Text, name)
	}
	said := append(slices.Clone(c.May), c.MayNot...)
	if len(said) == 0 {
		return errors.New("expects nothing: say what one may, or may_not")
	}
	for i, action := range said {
		if !slices.Contains(actions, action) {
			return fmt.Errorf("unknown action %q: receive or send", action)
		}
		if slices.Contains(said[:i], action) {
			return fmt.Errorf("%s is said twice", action)
		}
	}
	if c.Extension == "" {
		c.Extension = extensions[0]
	}
	if !slices.Contains(extensions, c.Extension) {
		return fmt.Errorf("unknown extension %q: broadcast or presence", c.Extension)
	}
	if _, named := c.As.Claims["role"].(string); c.As.Role == "" && !named {
		return errors.New("no role: as wants one, or claims that name one")
	}
	if c.Name == "" {
		c.Name = fmt.Sprintf("%s on %s", c.As, c.Topic.Text)
	}
	return nil
}

// String is how people speak of somebody.
func (p Person) String() string { return strings.TrimSpace(p.Sub + " as " + p.role()) }

func (p Person) role() string {
	if p.Role == "" {
		role, _ := p.Claims["role"].(string)
		return role
	}
	return p.Role
}

// question is what is asked about a case. sub and role are claims as well, as in tokens.
func (c *Case) question() (Question, error) {
	claims := maps.Clone(c.As.Claims)
	if claims == nil {
		claims = map[string]any{}
	}
	if c.As.Sub != "" {
		claims["sub"] = c.As.Sub
	}
	if _, given := claims["role"]; !given {
		claims["role"] = c.As.Role
	}
	headers := c.Headers
	if headers == nil {
		headers = map[string]any{}
	}
	claimsText, err := json.Marshal(claims)
	if err != nil {
		return Question{}, fmt.Errorf("write claims: %w", err)
	}
	headersText, err := json.Marshal(headers)
	if err != nil {
		return Question{}, fmt.Errorf("write headers: %w", err)
	}
	return Question{
		Topic: c.Topic.Text, Extension: c.Extension, Role: c.As.role(), Claims: string(claimsText), Headers: string(headersText),
	}, nil
}
