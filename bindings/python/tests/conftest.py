"""What the tests share. They run over the installed package (see ../README.md, "Building and testing")."""

import pytest

import attestlog


@pytest.fixture
def path(tmp_path):
    """Where a store may be made. Sockets have short paths; the engine finds a place for them by itself."""
    return tmp_path / "audit.log"


@pytest.fixture
def log(path):
    with attestlog.AuditLog.create(path) as log:
        yield log
