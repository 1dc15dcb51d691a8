package changes

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFilters(t *testing.T) {
	t.Parallel()
	eq := func(column, value string) Condition { return Condition{Column: column, Op: Eq, Value: value} }
	in := func(values ...string) Condition { return Condition{Column: "a", Op: In, Values: values} }
	for filter, want := range map[string][]Condition{
		"":                          nil,
		"  \n":                      nil,
		"a=eq.1":                    {eq("a", "1")},
		"a=eq.":                     {eq("a", "")},
		"=eq.1":                     {eq("", "1")},
		"a=eq.b=c.d":                {eq("a", "b=c.d")},
		"a=eq.1,b=lt.2":             {eq("a", "1"), {Column: "b", Op: Lt, Value: "2"}},
		" a=eq.1 ,\tb=gte.2 ":       {eq("a", "1"), {Column: "b", Op: Gte, Value: "2"}},
		"a =eq. 1":                  {eq("a ", " 1")},
		"a=not.eq.1":                {{Column: "a", Not: true, Op: Eq, Value: "1"}},
		"a=not.in.(1)":              {{Column: "a", Not: true, Op: In, Values: []string{"1"}}},
		"a=is.null":                 {{Column: "a", Op: Is, Value: "null"}},
		"a=not.is.null":             {{Column: "a", Not: true, Op: Is, Value: "null"}},
		"a=isdistinct.1":            {{Column: "a", Op: IsDistinct, Value: "1"}},
		"a=like.a%,b=ilike._":       {{Column: "a", Op: Like, Value: "a%"}, {Column: "b", Op: ILike, Value: "_"}},
		"a=match.^(a|b,c)$,b=neq.2": {{Column: "a", Op: Match, Value: "^(a|b,c)$"}, {Column: "b", Op: Neq, Value: "2"}},
		"a=imatch.x,b=lte.2,c=gt.3": {{Column: "a", Op: IMatch, Value: "x"}, {Column: "b", Op: Lte, Value: "2"}, {Column: "c", Op: Gt, Value: "3"}},

		// Quotes.
		`a=eq."b,c"`:               {eq("a", "b,c")},
		`a=eq."b\"c\\d\e"`:         {eq("a", `b"c\de`)},
		`a=eq."",b=eq.1`:           {eq("a", ""), eq("b", "1")},
		`a=eq."(",b=eq.1`:          {eq("a", "("), eq("b", "1")},
		`a=eq."b`:                  {eq("a", `"b`)},
		`a=eq."b,b=eq.1`:           {eq("a", `"b,b=eq.1`)},
		`a=eq."b\"`:                {eq("a", `"b\"`)},
		`a=eq."b"c`:                {eq("a", `"b"c`)},
		`a=eq.b"c,d"`:              nil, // the quote is part of the value, so d" is a condition
		`a=eq.x."y,z"`:             {eq("a", `x."y,z"`)},
		`a=eq.b",b=eq.1`:           {eq("a", `b"`), eq("b", "1")},
		`a=eq.5"`:                  {eq("a", `5"`)},
		`a=eq."`:                   {eq("a", `"`)},
		`a=eq.\,b=eq.1`:            {eq("a", `\`), eq("b", "1")},
		`a=eq."ü😀\ü"`:              {eq("a", "ü😀ü")},
		`"a,b"=eq.1`:               nil, // no value begins there
		`a=eq.(x,y),b=eq.1`:        {eq("a", "(x,y)"), eq("b", "1")},
		`a=eq.((x,y),b=eq.1`:       {eq("a", "((x,y),b=eq.1")},
		`a=eq.)x,b=eq.)`:           {eq("a", ")x"), eq("b", ")")},
		`a=eq.("x)","y"),b=eq.1`:   {eq("a", `("x)","y")`), eq("b", "1")},
		`a=not.match."^[a,b]+\\d"`: {{Column: "a", Not: true, Op: Match, Value: `^[a,b]+\d`}},

		// Lists.
		"a=in.()":                      {in([]string{}...)},
		"a=in.( )":                     {in([]string{}...)},
		"a=in.(1)":                     {in("1")},
		"a=in.(1,2),b=eq.3":            {in("1", "2"), eq("b", "3")},
		"a=in.( 1 , b c )":             {in("1", "b c")},
		`a=in.("1,2", "(3)" ,4)`:       {in("1,2", "(3)", "4")},
		`a=in.("","a\"b\\c")`:          {in("", `a"b\c`)},
		`a=in.(a"b,c")`:                {in(`a"b`, `c"`)},
		`a=in.("a"b,c)`:                {in(`"a"b`, "c")},
		`a=in.("a,b)`:                  {in(`"a,b`)},
		`a=in.("a\)`:                   {in(`"a\`)},
		`a=in.(C:\dir,null)`:           {in(`C:\dir`, "null")},
		`a=in.((1,2),3)`:               {in("(1", "2)", "3")},
		`a=in.({1},"{2,3}")`:           {in("{1}", "{2,3}")},
		"a=in.(2020-01-01 00:00:00.5)": {in("2020-01-01 00:00:00.5")},
	} {
		got, err := parseFilter(filter)
		if err != nil && want == nil {
			continue
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", filter, err, diff)
		}
	}
}

func TestFiltersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	const (
		empty       = "filter must not contain empty segments (check for extra commas)"
		parentheses = "`in` filter value must be wrapped by parentheses"
		emptyValue  = "`in` filter must not contain empty values (write \"\" for the empty text)"
	)
	for filter, want := range map[string]string{
		"wrong":                               `["wrong"]`,
		"undefined":                           `["undefined"]`,
		"subject=foo.hey":                     `["foo", "hey"]`,
		"subject=EQ.hey":                      `["EQ", "hey"]`,
		"a=eq":                                `["eq"]`,
		"a=not.eq":                            `["eq"]`,
		"a=not.not.eq.1":                      `["not", "eq.1"]`,
		"a=":                                  `[""]`,
		`a=fts."x`:                            `["fts", "\"x"]`,
		"a=eq.1,,b=eq.2":                      empty,
		"a=eq.1,":                             empty,
		",a=eq.1":                             empty,
		",":                                   empty,
		" , ":                                 empty,
		"a=eq.1,id=foo.100":                   `["foo", "100"]`,
		`a=eq.b"c,d"`:                         `["d\""]`,
		`"a,b"=eq.1`:                          `["\"a"]`,
		"a=in.1,b=eq.2":                       parentheses,
		"a=in.(":                              parentheses,
		"a=in.":                               parentheses,
		"a=in.(1":                             parentheses,
		"a=in.1)":                             parentheses,
		"a=in.(1,)":                           emptyValue,
		"a=in.(,1)":                           emptyValue,
		"a=in.(1, ,2)":                        emptyValue,
		"a=in.(,)":                            emptyValue,
		strings.Repeat("a=eq.1,", 50) + "a=b": "too many conditions. Maximum 50",
	} {
		if got, err := parseFilter(filter); err == nil || err.Error() != want {
			t.Errorf("%s: got %+v, %v, want %s", filter, got, err, want)
		}
	}
	if got, err := parseFilter(strings.Repeat("a=eq.1,", 49) + "a=eq.1"); err != nil || len(got) != 50 {
		t.Errorf("50 conditions: %d, %v", len(got), err)
	}
}
