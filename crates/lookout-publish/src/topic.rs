//! Topic names, and what each carries.

use lookout_core::Id;
use rumqttc::QoS;

/// What is published. The order is the order of publication on a new connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Status,
    Info,
    CameraStatus(Id),
    State(Id),
    Event(Id),
    Evidence(Id),
}

impl Topic {
    /// The topic's name under `prefix`, which is `<base>/<node>`.
    pub(crate) fn name(&self, prefix: &str) -> String {
        match self {
            Self::Status => format!("{prefix}/status"),
            Self::Info => format!("{prefix}/info"),
            Self::CameraStatus(camera) => format!("{prefix}/{camera}/status"),
            Self::State(camera) => format!("{prefix}/{camera}/state"),
            Self::Event(camera) => format!("{prefix}/{camera}/event"),
            Self::Evidence(camera) => format!("{prefix}/{camera}/evidence"),
        }
    }

    pub(crate) fn is_retained(&self) -> bool {
        match self {
            Self::Status | Self::Info | Self::CameraStatus(_) | Self::State(_) => true,
            Self::Event(_) | Self::Evidence(_) => false,
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        match self {
            Self::Evidence(_) => QoS::AtMostOnce,
            _ => QoS::AtLeastOnce,
        }
    }
}

/// Size of the packet that carries `payload_len` bytes to `name`: type, the longest possible
/// length field, topic with its length, packet id.
pub(crate) fn packet_len(name: &str, payload_len: usize) -> usize {
    1 + 4 + 2 + name.len() + 2 + payload_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_counted_with_its_header() {
        // As rumqttc counts it, but for the length field, which is 1 to 4 bytes long.
        for len in [0, 100, 100_000, 3_000_000] {
            let mut publish = rumqttc::Publish::new("a/b", QoS::AtLeastOnce, vec![0; len]);
            publish.pkid = 1;
            let got = packet_len("a/b", len);
            assert!((publish.size()..=publish.size() + 3).contains(&got), "{len}: {got}");
        }
    }
}
