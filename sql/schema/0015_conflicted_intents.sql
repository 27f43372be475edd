-- Intents in conflict: of some of them something was written.
-- depends: 0013_intents

COMMENT ON COLUMN finance_os.intents.state IS
    'planned: not sent; sending: committed before the call, its answer unknown; applied: the object is linked; '
    'failed: refused, nothing was written; conflicted: something else stands in its place, nothing more is written, '
    'and its code says over what: a create with qbo_object_doubled, qbo_object_missing or qbo_link_conflict was '
    'written; superseded: another version, or the plan''s silence, took its place before it was sent.';
