package changes

import (
	"testing"

	"rowcast/server/rights/aim"
)

func TestGroupKey(t *testing.T) {
	t.Parallel()
	const ann = `{"sub": "ann", "org": {"id": 1}, "exp": 1}`
	for _, test := range []struct {
		role, claims string
		names        []string
		all, same    bool
	}{
		{role: "authenticated", claims: ann, all: true, same: true},
		{role: "authenticated", claims: `{"sub": "ann", "org": {"id": 1}, "exp": 2}`, all: true},
		{role: "authenticated", claims: `{"sub": "bob"}`, same: true},
		{role: "anon", claims: ann},
		{role: "authenticated", claims: `{"exp": 2, "org":{"id":1}}`, names: []string{"org"}, same: true},
		{role: "authenticated", claims: `{"exp": 2, "s\u0075b": "ann"}`, names: []string{"sub"}, same: true},
		{role: "authenticated", claims: `{"sub": null}`, names: []string{"sub"}},
		{role: "authenticated", claims: `{"exp": 2}`, names: []string{"sub"}},
		{role: "authenticated", claims: `{"sub": "ann", "org": 1}`, names: []string{"org", "sub"}},
		{role: "authenticated", claims: ``, names: []string{"sub"}},
	} {
		c := aim.Claims{All: test.all, Names: test.names}
		if same := groupKey("authenticated", []byte(ann), c) == groupKey(test.role, []byte(test.claims), c); same != test.same {
			t.Errorf("%s %s by %v: the same: %t", test.role, test.claims, test.names, same)
		}
	}
}
