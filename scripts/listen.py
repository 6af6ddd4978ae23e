"""A subscriber in twenty lines: python scripts/listen.py [ENDPOINT]. Needs only pyzmq and msgpack."""

import sys

import msgpack
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "ipc:///tmp/edgeface-cam0.ipc"
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe("edgeface/1/")  # all cameras and topics; "edgeface/1/cam0/faces/" is one
socket.connect(endpoint)
while True:
    topic, payload = socket.recv_multipart()
    message = msgpack.unpackb(payload)
    if topic.endswith(b"/faces/"):
        for face in message["faces"]:
            x1, y1, x2, y2 = face["xyxy"]
            print(f"frame {message['frame_id']}: face {face['track_id']} at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}")
    else:
        print(topic.decode(), message.get("state") or message.get("event"), message.get("reason", ""))
