# workerd with one Durable Object namespace whose SQLite files live in the folder given by --directory-path.
using Workerd = import "/workerd/workerd.capnp";

const peer :Workerd.Config = (
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "sessions")],
  services = [
    (name = "sessions", worker = .sessions),
    # `run` overrides the path: a fresh folder each time.
    (name = "data", disk = (path = "/nonexistent", writable = true)),
  ],
);

const sessions :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  durableObjectNamespaces = [
    (className = "ChatSession", uniqueKey = "sessile-bench-peer", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "data"),
  bindings = [(name = "SESSIONS", durableObjectNamespace = "ChatSession")],
);
