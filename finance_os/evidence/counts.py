"""How many versions are staged and how many records are current, kept up to date by whoever stages.

Counting ten million rows takes seconds; a page that shows forty such counts cannot wait for them.
"""

from finance_os.evidence.database import DatabaseConnection


def count(connection: DatabaseConnection, key: tuple[str, str, str], *, versions: int, current: int) -> None:
    """Add to the counts of an object type, in the transaction that stages and under its lock.

    `key` is business, source system and object type; the numbers are differences.
    """
    if not versions and not current:
        return
    business_id, source_system, object_type = key
    connection.execute(
        """
        INSERT INTO finance_os.raw_record_counts AS counted (business_id, source_system, object_type, versions, current)
        VALUES (%(business_id)s, %(source_system)s, %(object_type)s,
                greatest(%(versions)s, 0), greatest(%(current)s, 0))  -- checked before the conflict is found
        ON CONFLICT (business_id, source_system, object_type) DO UPDATE
        SET versions = counted.versions + %(versions)s, current = counted.current + %(current)s
        """,
        {
            "business_id": business_id,
            "source_system": source_system,
            "object_type": object_type,
            "versions": versions,
            "current": current,
        },
    )
