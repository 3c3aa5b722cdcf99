//! What can be wrong with settings and payloads. A broker that is away is no error; see
//! [`crate::LinkSnapshot::last_error`].

/// Why a publisher cannot start, or a payload cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A setting is out of its range.
    #[error("`{key}` must be {rule}, got {got}")]
    InvalidSetting {
        /// Field of [`crate::MqttSettings`], or `cameras`.
        key: &'static str,
        /// What is allowed.
        rule: String,
        /// What was given; never a password.
        got: String,
    },
    /// The certificate authority's file cannot be used.
    #[error("the TLS CA file must hold certificates in PEM format: {reason}")]
    BadCa {
        /// What is wrong with it.
        reason: String,
    },
    /// TLS without a CA file needs the system's certificates, and there are none.
    #[error(
        "the system has no usable root certificates ({reason}); install ca-certificates or name a CA file"
    )]
    NoSystemRoots {
        /// What the search for them said.
        reason: String,
    },
    /// The TLS library refused its settings.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// `info` is larger than a packet may be.
    #[error(
        "the payload of `info` needs a packet of {got} bytes, max_packet_bytes is {max}; raise it or use fewer classes"
    )]
    InfoTooLarge {
        /// Size of the packet.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A number that JSON cannot express.
    #[error("{what} must be finite, got {got}")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// The number.
        got: f64,
    },
    /// A decision that was not made over the camera's classes.
    #[error("class {index} is not one of the {n_classes} classes given")]
    UnknownClass {
        /// Position of the class.
        index: usize,
        /// How many there are.
        n_classes: usize,
    },
    /// A payload could not be written.
    #[error("the payload cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The thread could not be started.
    #[error("the MQTT thread cannot be started")]
    Thread(#[from] std::io::Error),
}
