package sql

import _ "embed"

// What package rights asks.

//go:embed digest.sql
var Digest string

//go:embed discover.sql
var Discover string

//go:embed watched.sql
var Watched string

//go:embed to_watch.sql
var ToWatch string

//go:embed watch_found.sql
var WatchFound string

//go:embed outgrown.sql
var Outgrown string

//go:embed to_unwatch.sql
var ToUnwatch string

//go:embed unwatch_found.sql
var UnwatchFound string

//go:embed digest_after.sql
var DigestAfter string

//go:embed observed.sql
var Observed string

//go:embed touched.sql
var Touched string

// EventTriggers is for a superuser to apply.
//
//go:embed event_triggers.sql
var EventTriggers string

//go:embed plan_anew.sql
var PlanAnew string
