// Package sql carries what the server asks of the database at run time, one file per question. It executes nothing, and
// what must exist in the database is in package migrations.
package sql

import "embed"

//go:embed aim.sql
var Aim string

//go:embed applied_versions.sql
var AppliedVersions string

//go:embed backend_pid.sql
var BackendPID string

//go:embed changes_check.sql
var ChangesCheck string

//go:embed changes_create_publication.sql
var ChangesCreatePublication string

//go:embed changes_describe.sql
var ChangesDescribe string

//go:embed changes_export.sql
var ChangesExport string

//go:embed changes_find.sql
var ChangesFind string

//go:embed changes_matches.sql
var ChangesMatches string

//go:embed changes_page.sql
var ChangesPage string

//go:embed changes_published.sql
var ChangesPublished string

//go:embed changes_policies.sql
var ChangesPolicies string

//go:embed changes_policies_digest.sql
var ChangesPoliciesDigest string

//go:embed changes_position.sql
var ChangesPosition string

//go:embed changes_publication.sql
var ChangesPublication string

//go:embed changes_render.sql
var ChangesRender string

//go:embed changes_still.sql
var ChangesStill string

//go:embed changes_visible.sql
var ChangesVisible string

//go:embed changes_rewritten.sql
var ChangesRewritten string

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

//go:embed recorded_versions.sql
var RecordedVersions string

//go:embed forget_version.sql
var ForgetVersion string

//go:embed schema_version.sql
var SchemaVersion string

//go:embed decide.sql
var Decide string

//go:embed digests.sql
var Digests string

//go:embed disconnects.sql
var Disconnects string

//go:embed explain.sql
var Explain string

//go:embed dropped.sql
var Dropped string

//go:embed grants.sql
var Grants string

//go:embed heartbeat.sql
var Heartbeat string

//go:embed slot.sql
var Slot string

//go:embed slot_drop.sql
var SlotDrop string

//go:embed snapshot.sql
var Snapshot string

//go:embed elsewhere.sql
var Elsewhere string

//go:embed hear.sql
var Hear string

//go:embed horizon.sql
var Horizon string

//go:embed source.sql
var Source string

//go:embed stream_waits.sql
var StreamWaits string

//go:embed straggler_messages.sql
var StragglerMessages string

//go:embed terminate.sql
var Terminate string

//go:embed transaction_id.sql
var TransactionID string

//go:embed lease_acquire.sql
var LeaseAcquire string

//go:embed lease_lock.sql
var LeaseLock string

//go:embed lease_release.sql
var LeaseRelease string

//go:embed lease_renew.sql
var LeaseRenew string

//go:embed limits.sql
var Limits string

//go:embed listener_settings.sql
var ListenerSettings string

//go:embed replication_slots.sql
var ReplicationSlots string

//go:embed replication_role.sql
var ReplicationRole string

//go:embed synchronous_standbys.sql
var SynchronousStandbys string

//go:embed maintain.sql
var Maintain string

//go:embed message_room.sql
var MessageRoom string

//go:embed maintain_decisions.sql
var MaintainDecisions string

//go:embed messages.sql
var Messages string

//go:embed missed_disconnects.sql
var MissedDisconnects string

//go:embed missed_marks.sql
var MissedMarks string

//go:embed missed_messages.sql
var MissedMessages string

//go:embed missed_range.sql
var MissedRange string

//go:embed policy_decide.sql
var PolicyDecide string

//go:embed probe.sql
var Probe string

//go:embed publication_digest.sql
var PublicationDigest string

//go:embed record_decisions.sql
var RecordDecisions string

//go:embed replay_after.sql
var ReplayAfter string

//go:embed replay_messages.sql
var ReplayMessages string

//go:embed replay_since.sql
var ReplaySince string

//go:embed roles.sql
var Roles string

//go:embed script_end.sql
var ScriptEnd string

//go:embed script_run.sql
var ScriptRun string

//go:embed script_text.sql
var ScriptText string

//go:embed script_transaction.sql
var ScriptTransaction string

//go:embed settings.sql
var Settings string

//go:embed sync_acknowledge.sql
var SyncAcknowledge string

//go:embed sync_awaited.sql
var SyncAwaited string

//go:embed table_exists.sql
var TableExists string

//go:embed users_path.sql
var UsersPath string

//go:embed auth.sql
var Auth string

//go:embed schema_exists.sql
var SchemaExists string

//go:embed chat.sql
var Chat string

//go:embed chat_people.sql
var ChatPeople string

//go:embed chat_try.sql
var ChatTry string

//go:embed dev_create.sql
var DevCreate string

//go:embed dev_remove.sql
var DevRemove string

// Policies are the samples, one file each. `rowcast dev` applies them all.
//
//go:embed policies/*.sql
var Policies embed.FS

// Lint are the rules of `rowcast policy lint`, and Doctor those checks of `rowcast doctor` that ask the database, one file
// each. Each gives what it finds: an object, what is wrong with it, and how to mend it. $1 is a JSON object of settings.
var (
	//go:embed lint/*.sql
	Lint embed.FS
	//go:embed doctor/*.sql
	Doctor embed.FS
)

// Bench is what `make bench` asks; the server does not.
//
//go:embed bench/*.sql
var Bench embed.FS
