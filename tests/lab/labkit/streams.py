"""The command's standard streams: sockets to the emulated machine's virtio-serial ports, relayed byte for byte.

The lab host ends each output stream with a token that only this session knows, so that "everything has arrived" is
something that is read and not guessed.
"""

import os
import socket
import threading


class Output(threading.Thread):
    """Relays one of the command's output streams to a file descriptor of ours, live."""

    def __init__(self, connection, descriptor, token, events):
        super().__init__(daemon=True)
        self.socket, self.descriptor, self.token, self.events = connection, descriptor, token, events
        self.complete = False
        self.reader_left = False

    def run(self):
        held = b""
        while chunk := receive(self.socket):
            held += chunk
            end = held.find(self.token)
            self.complete = end >= 0
            ready = end if self.complete else len(held) - partial_match(held, self.token)
            if not self.pass_on(held[:ready]):
                return
            if self.complete:
                return
            held = held[ready:]
        self.pass_on(held)

    def pass_on(self, data):
        """Writes all of `data`; false when whoever read our output has gone."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError:
            self.reader_left = True
            self.events.put(("reader left", None))
        return not self.reader_left


def partial_match(data, token):
    """How many bytes at the end of `data` could be the beginning of `token`."""
    longest = min(len(data), len(token) - 1)
    return next((n for n in range(longest, 0, -1) if data.endswith(token[:n])), 0)


def receive(connection):
    """The next bytes, or nothing once the machine is gone."""
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


class Input(threading.Thread):
    """Relays our standard input to the command; its end becomes the end of the command's input."""

    def __init__(self, connection):
        super().__init__(daemon=True)
        self.socket = connection

    def run(self):
        try:
            while chunk := os.read(0, 1 << 16):
                self.socket.sendall(chunk)
        except OSError:
            pass
        # Not close(): QEMU would drop what it has not read yet.
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
