"""The files whose tests take longest, the slowest first: where several processes share the work, they start with these.

``pytest --durations=0`` shows when the order is no longer right; nothing but the duration of a run depends on it."""

SLOWEST = [
    "cli/test_copy.py",
    "nodes/test_postgres.py",
    "faults/test_fuzz.py",
    "browser/test_browser.py",
    "browser/test_connection.py",
    "browser/test_react.py",
    "cli/test_operations.py",
    "web/test_edge.py",
    "faults/test_disk.py",
    "faults/test_kills.py",
    "docs/test_openapi.py",
    "web/test_compiler.py",
    "js/test_js.py",
    "browser/test_example_react.py",
    "web/test_throttle.py",
    "web/test_accounts.py",
    "nodes/test_postgres_neighbours.py",
    "nodes/test_postgres_connections.py",
    "web/test_upgrade.py",
    "web/test_handover.py",
    "nodes/test_workers.py",
    "web/test_schedule.py",
    "contract/test_model.py",
    "web/test_shutdown.py",
    "web/test_dual_stack.py",
    "web/test_many_pending.py",
]
