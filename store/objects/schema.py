"""The tables of a store, as SQL: those of the oldest version that can be opened, and what each later version changed."""

from __future__ import annotations

VERSION = 13

FIRST_TABLES = """
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, compression TEXT NOT NULL,
    PRIMARY KEY (diff_id, digest)) WITHOUT ROWID;
CREATE TABLE changesets (id TEXT PRIMARY KEY, boot TEXT) WITHOUT ROWID;
CREATE TABLE tocs (id TEXT PRIMARY KEY REFERENCES changesets ON DELETE CASCADE, boot TEXT) WITHOUT ROWID;
CREATE TABLE unread (
    id TEXT PRIMARY KEY REFERENCES changesets ON DELETE CASCADE, diff_id TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, compression TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tars (
    changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE, clamp INTEGER NOT NULL, diff_id TEXT NOT NULL,
    PRIMARY KEY (changeset, clamp)) WITHOUT ROWID;
CREATE TABLE trees (
    id TEXT PRIMARY KEY, changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE, id_map TEXT NOT NULL, boot TEXT,
    UNIQUE (changeset, id_map)) WITHOUT ROWID;
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES snapshots ON DELETE CASCADE,
    changeset TEXT NOT NULL REFERENCES changesets ON DELETE CASCADE);
CREATE TABLE chains (
    chain_id TEXT PRIMARY KEY, snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE,
    canonical TEXT NOT NULL, inputs TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER NOT NULL);
CREATE TABLE record_keys (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, record INTEGER NOT NULL REFERENCES records ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE images (
    manifest TEXT PRIMARY KEY REFERENCES blobs ON DELETE CASCADE, config TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
    snapshot INTEGER REFERENCES snapshots ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE tag_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at INTEGER NOT NULL, manifest TEXT, recipe TEXT NOT NULL);
CREATE TABLE parses (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX snapshots_of_changeset ON snapshots (changeset);
CREATE INDEX snapshots_of_parent ON snapshots (parent);
CREATE INDEX records_of_snapshot ON records (snapshot);
CREATE INDEX keys_of_record ON record_keys (record);
CREATE INDEX tags ON tag_log (name, id);
CREATE INDEX tars_of_diff_id ON tars (diff_id);
"""
FIRST = 2  # the version of FIRST_TABLES; opening a store of this version or a later one migrates it to VERSION
MIGRATIONS = {
    3: """
CREATE TABLE tree_sizes (
    id TEXT PRIMARY KEY REFERENCES trees ON DELETE CASCADE, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cachemounts (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER NOT NULL,
    size INTEGER, boot TEXT) WITHOUT ROWID;
CREATE INDEX cachemounts_of_key ON cachemounts (key);
CREATE TABLE condemned (
    kind TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE waits (
    generation INTEGER NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (generation, lease)) WITHOUT ROWID;
""",
    4: """
CREATE TABLE downloads (
    url TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, etag TEXT NOT NULL,
    last_modified TEXT NOT NULL) WITHOUT ROWID;
""",
    5: """
CREATE TABLE builds (
    id TEXT PRIMARY KEY, recipe TEXT NOT NULL, target TEXT NOT NULL, manifest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE build_steps (
    build TEXT NOT NULL REFERENCES builds ON DELETE CASCADE, node INTEGER NOT NULL, parent INTEGER, sources TEXT NOT NULL,
    stage TEXT NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL, instruction TEXT NOT NULL, outcome TEXT NOT NULL,
    fresh INTEGER NOT NULL, key TEXT NOT NULL, snapshot INTEGER, args TEXT NOT NULL,
    PRIMARY KEY (build, node)) WITHOUT ROWID;
CREATE TABLE step_inputs (key TEXT PRIMARY KEY, inputs TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX build_steps_of_key ON build_steps (key);
""",
    6: """
ALTER TABLE build_steps ADD COLUMN mounted TEXT NOT NULL DEFAULT '[]';
""",
    7: """
ALTER TABLE trees ADD COLUMN identity TEXT NOT NULL DEFAULT '';
ALTER TABLE cachemounts ADD COLUMN identity TEXT NOT NULL DEFAULT '';
""",
    8: """
ALTER TABLE tag_log ADD COLUMN platform TEXT NOT NULL DEFAULT '';
""",
    9: """
ALTER TABLE blobs ADD COLUMN verified TEXT NOT NULL DEFAULT '';
""",
    10: """
CREATE TABLE claims (
    changeset TEXT PRIMARY KEY REFERENCES changesets ON DELETE CASCADE, diff_id TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, compression TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO claims SELECT unread.id, diff_id, digest, size, compression FROM unread JOIN blobs USING (digest);
DROP TABLE unread;
CREATE TABLE places (
    digest TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, seen INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)) WITHOUT ROWID;
CREATE INDEX claims_of_digest ON claims (digest);
""",
    11: """
CREATE TABLE keys (
    key TEXT NOT NULL, record INTEGER NOT NULL REFERENCES records ON DELETE CASCADE, kind TEXT NOT NULL,
    PRIMARY KEY (key, record)) WITHOUT ROWID;
INSERT INTO keys SELECT key, record, kind FROM record_keys;
DROP TABLE record_keys;
ALTER TABLE keys RENAME TO record_keys;
CREATE INDEX keys_of_record ON record_keys (record);
ALTER TABLE claims ADD COLUMN clamp INTEGER;
ALTER TABLE claims ADD COLUMN claimed_table TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN id_map TEXT NOT NULL DEFAULT '';
""",
    # Nobody remembers whether a step with a secret wrote to the cache mounts that are there: they count as if one did.
    12: """
ALTER TABLE cachemounts ADD COLUMN secret INTEGER NOT NULL DEFAULT 1;
ALTER TABLE cachemounts ADD COLUMN owners_lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cachemounts ADD COLUMN state TEXT NOT NULL DEFAULT '';
ALTER TABLE cachemounts ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cachemounts ADD COLUMN layer TEXT NOT NULL DEFAULT '';
""",
    13: """
CREATE TABLE indexes (
    digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE, manifest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    PRIMARY KEY (digest, manifest)) WITHOUT ROWID;
CREATE INDEX indexes_of_image ON indexes (manifest);
ALTER TABLE tag_log ADD COLUMN part_of TEXT NOT NULL DEFAULT '';
ALTER TABLE build_steps ADD COLUMN platform TEXT NOT NULL DEFAULT '';
""",
}


def statements(text: str) -> list[str]:
    """The statements of a text, each of which ends with a semicolon at the end of a line."""
    return [statement for statement in text.split(";\n") if statement.strip()]
