// Package sql carries what the server asks of the database at run time, one file per question. It executes nothing, and
// what must exist in the database is in package migrations.
package sql

import _ "embed"

//go:embed applied_versions.sql
var AppliedVersions string

//go:embed create_schema.sql
var CreateSchema string

//go:embed drop_schema.sql
var DropSchema string

//go:embed missing_rights.sql
var MissingRights string

//go:embed migration_lock.sql
var MigrationLock string

//go:embed migration_lock_wait.sql
var MigrationLockWait string

//go:embed record_version.sql
var RecordVersion string

//go:embed schema_version.sql
var SchemaVersion string
