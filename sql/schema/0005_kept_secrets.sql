-- Secrets that Finance OS keeps for a connection, encrypted: those that a vendor replaces while they are used.
-- depends: 0004_grants

ALTER TABLE finance_os.connections
    ADD CONSTRAINT connections_of_business UNIQUE (connection_id, business_id);

CREATE TABLE finance_os.connection_secrets (
    connection_id bigint NOT NULL,
    business_id   text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    ciphertext    bytea NOT NULL,
    version       integer NOT NULL DEFAULT 1 CHECK (version > 0),
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (connection_id, name),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON COLUMN finance_os.connection_secrets.ciphertext IS
    'AES-256-GCM; begins with the ID of its key. Business, connection and name are authenticated with it.';
COMMENT ON COLUMN finance_os.connection_secrets.version IS 'How often it has been written.';

-- Not for the reader, whatever the owner's default privileges are: ciphertext is of no use to a report.
REVOKE ALL ON finance_os.connection_secrets FROM PUBLIC, finance_os_reader;
GRANT SELECT, INSERT, UPDATE ON finance_os.connection_secrets TO finance_os_application;
