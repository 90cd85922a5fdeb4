"""A client of GDB's remote protocol that is as fast as Python lets it, for measuring stubs: the same code
talks to every one of them, and takes from each what its qSupported offers."""
import socket


def unescaped(data):
    """'}' itself comes last: before that it stands for nothing but an escape."""
    for byte in b"#$*}":
        data = data.replace(b"}%c" % (byte ^ 0x20), b"%c" % byte)
    return data


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.acks = True
        self.received = b""
        answer = self.ask(b"qSupported:swbreak+;hwbreak+;vContSupported+")
        if answer.startswith(b"T"):  # QEMU tells that it has just stopped its guest
            answer = self.next()
        self.offers = answer.decode().split(";")
        if "QStartNoAckMode+" in self.offers:
            self.expect(b"QStartNoAckMode", b"OK")
            self.acks = False
        self.most = min(int(next(o for o in self.offers if o.startswith("PacketSize="))[11:], 16) // 2 - 32,
                        65536)
        self.binary = self.ask(b"x0,0") == b"OK"
        self.ranges = b";r" in self.ask(b"vCont?")

    def send(self, payload):
        self.socket.sendall(b"$%b#%02x" % (payload, sum(payload) & 0xff))

    def interrupt(self):
        self.socket.sendall(b"\x03")

    def next(self):
        """The payload of the next packet, escapes and all; '#' is escaped within one."""
        data, looked_at = self.received, 0
        while True:
            end = data.find(b"#", looked_at)
            if 0 <= end < len(data) - 2:
                break
            looked_at = len(data) if end < 0 else end
            more = self.socket.recv(1 << 18)
            if not more:
                raise EOFError("the stub hung up")
            data += more
        self.received = data[end + 3:]
        if self.acks:
            self.socket.sendall(b"+")
        return data[data.index(b"$") + 1:end]

    def ask(self, payload):
        self.send(payload)
        return self.next()

    def expect(self, payload, answer):
        got = self.ask(payload)
        if not got.startswith(answer):
            raise ValueError("%r was answered %r" % (payload[:40], got[:80]))

    def read(self, address, size, binary):
        """The reply as it comes: what a client makes of it is not the stub's time."""
        return self.ask(b"%c%x,%x" % (b"x" if binary else b"m", address, size))

    @staticmethod
    def decode(reply, binary):
        return unescaped(reply) if binary else bytes.fromhex(reply.decode())

    def write(self, address, data):
        self.expect(b"M%x,%x:%b" % (address, len(data), data.hex().encode()), b"OK")

    def rip(self):
        """The 17th register of both stubs' `g`. QEMU's `p` gives what was so at the last `g`."""
        return int.from_bytes(bytes.fromhex(self.ask(b"g")[256:272].decode()), "little")

    def step(self):
        self.expect(b"vCont;s:1", b"T05")
