"""A real SSH server on loopback whose commands run on this machine, in a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import asyncssh


class SshServer:
    """Serves `home` until `stop`; `user_home` holds the key that may log in and the known hosts."""

    def __init__(self, home: Path, user_home: Path, *, path: str | None = None) -> None:
        self.home, self.connections = home, 0
        self._path = path or os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._open: list[asyncssh.SSHServerConnection] = []
        self._children: set[int] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._call(self._listen(user_home))

    def cut(self) -> None:
        """Close every connection as a network that breaks does: without a word."""
        self._call(self._abort())

    def refuse(self) -> None:
        """Listen no more; connections that are open stay."""
        self._call(self._close_listener())

    def stop(self) -> None:
        """End the server and every command it started."""
        self.refuse()
        self.cut()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._call(asyncio.sleep(0.1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self, user_home: Path) -> int:
        ssh = user_home / ".ssh"
        ssh.mkdir(parents=True, exist_ok=True)
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        key = ssh / "id_ed25519"
        if not key.exists():
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
            key.chmod(0o600)
        allowed = asyncssh.import_authorized_keys(
            asyncssh.read_private_key(key).export_public_key().decode()
        )
        server = self

        class Connection(asyncssh.SSHServer):
            def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
                server.connections += 1
                server._open.append(connection)

        self._listener = await asyncssh.create_server(
            Connection,
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=allowed,
            process_factory=self._serve,
            encoding=None,
        )
        port: int = self._listener.get_port()
        line = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
        with (ssh / "known_hosts").open("a") as file:
            file.write(line)
        return port

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run the command in a shell; its input ends when the connection does."""
        child = await asyncio.create_subprocess_shell(
            process.command or "true",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.home), "PATH": self._path},
            cwd=self.home,
            start_new_session=True,
        )
        self._children.add(child.pid)
        assert child.stdin and child.stdout and child.stderr
        given = asyncio.create_task(_copy(process.stdin, child.stdin))
        await asyncio.gather(
            _copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr)
        )
        status = await child.wait()
        given.cancel()
        self._children.discard(child.pid)
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)

    async def _abort(self) -> None:
        for connection in self._open:
            connection.abort()
        self._open.clear()

    async def _close_listener(self) -> None:
        self._listener.close()


async def _copy(source: Any, sink: Any) -> None:
    """Until the end of either; a command's input is then closed."""
    with contextlib.suppress(asyncssh.Error, OSError):
        while piece := await source.read(1 << 16):
            sink.write(piece)
            await sink.drain()
    if isinstance(sink, asyncio.StreamWriter):
        sink.close()
