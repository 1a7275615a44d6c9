"""Programs that run in the guests of these tests, as text: standard library and no more."""

from typing import Final

# argv: JSON of [address, port] pairs. Prints {"address:port": what came | the error's name}.
REACH: Final = """
import errno, json, socket, sys, threading
told = {}
def reach(address, port):
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(kind)
    s.settimeout(8)
    try:
        s.connect((address, port))
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        said = b""
        while piece := s.recv(4096):
            said += piece
        told[address + ":" + str(port)] = "reached " + said.decode(errors="replace")[-200:]
    except OSError as e:
        told[address + ":" + str(port)] = errno.errorcode.get(e.errno or 0, type(e).__name__)
all = [threading.Thread(target=reach, args=one) for one in json.loads(sys.argv[1])]
for one in all: one.start()
for one in all: one.join()
print(json.dumps(told))
"""

# argv: target, port, JSON of [source address, source MAC, words] triples. Sends UDP by raw frames.
SPOOF: Final = """
import ipaddress, json, socket, struct, sys
target, port, given = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
GATEWAY = bytes.fromhex("02ee00000002")
def sum16(data):
    data += b"\\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
def frame(source, mac, words):
    data = words.encode()
    udp = struct.pack("!HHHH", 4000, port, 8 + len(data), 0) + data
    s, t = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    if len(s) == 4:
        head = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 7, 0, 64, 17, 0, s, t)
        head = head[:10] + struct.pack("!H", sum16(head)) + head[12:]
        kind, pseudo = 0x0800, s + t + struct.pack("!BBH", 0, 17, len(udp))
    else:
        head = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + s + t
        kind, pseudo = 0x86DD, s + t + struct.pack("!II", len(udp), 17)
    udp = udp[:6] + struct.pack("!H", sum16(pseudo + udp) or 0xFFFF) + udp[8:]
    return GATEWAY + bytes.fromhex(mac.replace(":", "")) + struct.pack("!H", kind) + head + udp
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
for one in given:
    raw.send(frame(*one))
print("sent", len(given))
"""

# Prints what the metadata service says to requests that are wrong, and to one that is right.
METADATA: Final = """
import http.client, json
def ask(method, path, **headers):
    link = http.client.HTTPConnection("169.254.169.254", timeout=20)
    link.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = link.getresponse()
    return answer.status, answer.read().decode(errors="replace")
TTL = "X_aws_ec2_metadata_token_ttl_seconds"
told = {
    "no token": ask("GET", "/latest/meta-data/instance-id"),
    "wrong token": ask("GET", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token="x"),
    "token without a life": ask("PUT", "/latest/api/token"),
    "token through a proxy": ask("PUT", "/latest/api/token", X_Forwarded_For="1", **{TTL: "60"}),
    "token by GET": ask("GET", "/latest/api/token", **{TTL: "60"}),
}
status, token = ask("PUT", "/latest/api/token", **{TTL: "60"})
told["right"] = ask("GET", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token=token)
told["of the host"] = ask("GET", "/../../etc/shadow", X_aws_ec2_metadata_token=token)
print(json.dumps(told))
"""
