-- Retention of webhook bodies: one goes once all of its events have long been done; its hash and its events stay.
-- depends: 0013_intents

ALTER TABLE finance_os.webhook_bodies
    ALTER COLUMN body DROP NOT NULL,
    ADD COLUMN pruned_at timestamptz,
    ADD CHECK ((body IS NULL) = (pruned_at IS NOT NULL));
COMMENT ON TABLE finance_os.webhook_bodies IS
    'Raw bodies, byte for byte as they were signed; of the connection that they were sent to. Append-only, but that a '
    'body is pruned some time after its events are done: never one of an event that waits, is read for or is set aside.';
COMMENT ON COLUMN finance_os.webhook_bodies.body IS 'Null once it was pruned.';
COMMENT ON COLUMN finance_os.webhook_bodies.body_hash IS 'SHA-256 of body, also of one that was pruned.';
COMMENT ON COLUMN finance_os.webhook_bodies.pruned_at IS
    'When the body was pruned. The same bytes that come again for a new event are another row.';

-- A vendor without event IDs says the same in the same bytes again, so that a body that was pruned may come anew.
CREATE UNIQUE INDEX webhook_bodies_kept_once ON finance_os.webhook_bodies (connection_id, body_hash)
    WHERE pruned_at IS NULL;
ALTER TABLE finance_os.webhook_bodies DROP CONSTRAINT webhook_bodies_connection_id_body_hash_key;

-- What is looked through for pruning, and the events of a body.
CREATE INDEX webhook_bodies_kept ON finance_os.webhook_bodies (body_id) WHERE pruned_at IS NULL;
CREATE INDEX webhook_events_of_body ON finance_os.webhook_events (body_id);

-- Nothing but pruning changes a body, whoever asks.
DROP TRIGGER append_only ON finance_os.webhook_bodies;
CREATE TRIGGER append_only
    BEFORE UPDATE OF body_id, business_id, connection_id, body_hash, received_at OR DELETE OR TRUNCATE
    ON finance_os.webhook_bodies
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE FUNCTION finance_os.webhook_body_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.body IS NULL OR NEW.body IS NOT NULL THEN
        RAISE EXCEPTION 'finance_os.webhook_bodies is append-only: a body is pruned, once, and never changed'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Record a new body instead.';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'bodies are pruned in a transaction that is READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Another snapshot does not show every event.';
    END IF;
    -- Who is putting an event to it holds it until that is committed.
    PERFORM FROM finance_os.webhook_bodies AS body WHERE body.body_id = OLD.body_id FOR UPDATE;
    IF EXISTS (SELECT FROM finance_os.webhook_events AS event
               WHERE event.body_id = OLD.body_id AND event.state <> 'done') THEN
        RAISE EXCEPTION 'body % is of an event that is not done', OLD.body_id
            USING ERRCODE = 'check_violation', HINT = 'See finance-os webhooks list.';
    END IF;
    NEW.pruned_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER rules BEFORE UPDATE ON finance_os.webhook_bodies
    FOR EACH ROW EXECUTE FUNCTION finance_os.webhook_body_rules();

-- And no event waits without its body. That of a new one is locked by the foreign key before this looks: it is not
-- pruned until the event is committed, and one that was being pruned is seen to be. For an event that was done, the body
-- is locked here, as the owner: the application may lock only what it may update.
CREATE FUNCTION finance_os.webhook_events_that_came() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    lost bigint;
BEGIN
    SELECT came.body_id INTO lost
    FROM came JOIN finance_os.webhook_bodies AS body USING (body_id)
    WHERE came.state <> 'done' AND body.pruned_at IS NOT NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'body % was pruned: no event is put to it', lost
            USING ERRCODE = 'check_violation', HINT = 'Keep it anew.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER has_body AFTER INSERT ON finance_os.webhook_events REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.webhook_events_that_came();

CREATE FUNCTION finance_os.webhook_event_again() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM finance_os.webhook_bodies AS body
    WHERE body.body_id = NEW.body_id AND body.pruned_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % is not walked again: body % was pruned', NEW.event_number, NEW.body_id
            USING ERRCODE = 'check_violation', HINT = 'Read what it speaks of from the vendor.';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION finance_os.webhook_event_again() FROM PUBLIC;
CREATE TRIGGER has_body_again BEFORE UPDATE OF state, body_id ON finance_os.webhook_events
    FOR EACH ROW WHEN (NEW.state <> 'done' AND (OLD.state = 'done' OR OLD.body_id <> NEW.body_id))
    EXECUTE FUNCTION finance_os.webhook_event_again();

-- The one way in which the application changes a body, which it may not update.
CREATE FUNCTION finance_os.prune_webhook_bodies(body_ids bigint[], before timestamptz) RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held bigint[];
BEGIN
    -- One that an event is just being put to is left for the next time.
    SELECT array_agg(locked.body_id) INTO held FROM (
        SELECT body.body_id FROM finance_os.webhook_bodies AS body
        WHERE body.body_id = ANY (body_ids) AND body.pruned_at IS NULL
        ORDER BY body.body_id FOR UPDATE SKIP LOCKED
    ) AS locked;
    -- A statement of its own, which sees the events that were committed before the bodies were held.
    RETURN QUERY
        UPDATE finance_os.webhook_bodies AS body SET body = NULL
        WHERE body.body_id = ANY (held) AND body.received_at < before
          AND NOT EXISTS (SELECT FROM finance_os.webhook_events AS event
                          WHERE event.body_id = body.body_id
                            AND (event.state <> 'done' OR event.settled_at >= before))
        RETURNING body.body_id;
END
$$;
COMMENT ON FUNCTION finance_os.prune_webhook_bodies IS
    'Prune those of the given bodies whose events, and whose coming, were all over before a moment; their IDs.';
REVOKE ALL ON FUNCTION finance_os.prune_webhook_bodies FROM PUBLIC;
GRANT EXECUTE ON FUNCTION finance_os.prune_webhook_bodies TO finance_os_application;

-- By column: the application keeps bodies, and none that is missing from the beginning.
REVOKE INSERT ON finance_os.webhook_bodies FROM finance_os_application;
GRANT INSERT (business_id, connection_id, body_hash, body) ON finance_os.webhook_bodies TO finance_os_application;
