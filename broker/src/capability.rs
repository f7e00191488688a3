//! The kinds of what package code may ask for. Manifests have the same table, with what may stand in a scope; the host
//! checks that both know the same names.

macro_rules! capabilities {
    ($($kind:ident $name:literal)*) => {
        /// A kind of what package code may ask for.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[allow(missing_docs, reason = "each is its name, and the manifest's table says what it allows")]
        pub enum Capability {
            $($kind,)*
        }

        impl Capability {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As manifests and grants have it: `kv:read`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

capabilities! {
    AuditRead "audit:read"
    DependenciesRead "dependencies:read"
    HttpEgress "http:egress"
    KvRead "kv:read"
    KvWrite "kv:write"
    LogWrite "log:write"
    MonitorRead "monitor:read"
    MonitorAdmin "monitor:admin"
    NodeRead "node:read"
    NodeAdmin "node:admin"
    NotifySend "notify:send"
    StaticRead "static:read"
    StaticWrite "static:write"
    TaskRead "task:read"
    TaskRun "task:run"
    TunnelAdmin "tunnel:admin"
    WorkerRoute "worker:route"
    NetworkPlan "network:plan"
    NetworkApply "network:apply"
    DdnsAdmin "ddns:admin"
    FilesRead "files:read"
    FilesWrite "files:write"
    ProcessRun "process:run"
    Net "net"
    Subcontainers "subcontainers"
    Volumes "volumes"
    Backups "backups"
    Secrets "secrets"
    UiProxy "ui-proxy"
    Debug "debug"
    PluginAdmin "plugin:admin"
}
