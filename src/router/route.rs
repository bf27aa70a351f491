//! The router: checks names, finds the owner, forwards.

use bytestring::ByteString;

use crate::actor::Node;
use crate::auth::Caller;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::base::limits::Limits;
use crate::domain::session::Rejection;
use crate::domain::session::Session;
use crate::model::ModelError;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

/// A place in the list of sessions: behind the session with this time of activity and hash.
pub type Place = (i64, KeyHash);

/// A session that a caller may use.
#[derive(Clone, Debug)]
pub struct Target(Key);

impl Target {
    /// The id that the client uses.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Its id as a name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.name()
    }

    /// The name of the session in this process.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0
    }
}

/// Finds the actor for a request. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    node: Node,
}

impl Router {
    /// A router to the actors of `node`.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self { node }
    }

    /// The session `id` of the caller's workspace.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] when no session can be called that.
    pub fn target(&self, caller: &Caller, id: &str) -> Result<Target, Rejection> {
        let name = Name::new(id).map_err(Rejection::misnamed("id"))?;
        Ok(Target(Key::session(caller.workspace(), &name)))
    }

    /// Asks the actor of `target`.
    ///
    /// # Errors
    ///
    /// What the actor answers, or that it could not be reached.
    pub async fn ask(&self, target: &Target, request: Request) -> Result<Answer, Error> {
        self.node.ask(&target.0, request).await
    }

    /// Gives `text` to all who follow `target` now. It is stored nowhere.
    pub fn publish(&self, target: &Target, text: ByteString) {
        self.node.publish(&target.0, text);
    }

    /// A page of the caller's sessions, newest activity first, each with its place in the list.
    ///
    /// # Errors
    ///
    /// [`Error::Reset`] when the catalogue cannot be read.
    pub async fn list(
        &self,
        caller: &Caller,
        behind: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Session, Place)>, Error> {
        self.node.list(caller.workspace().to_string(), behind, limit).await
    }

    /// Becomes true when every reader is told that the process ends: for readers of no session.
    #[must_use]
    pub fn closing(&self) -> tokio::sync::watch::Receiver<bool> {
        self.node.closing()
    }

    /// Who answers on the chat route.
    #[must_use]
    pub fn chat_model(&self) -> &str {
        self.node.chat_model().unwrap_or_else(|| self.default_model())
    }

    /// Who answers when nobody says who.
    #[must_use]
    pub fn default_model(&self) -> &str {
        self.node.engine().providers.default_address()
    }

    /// Says no before anything is stored, if it is known that `model` will not answer `text`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check_model(&self, model: &str, text: &str) -> Result<(), ModelError> {
        let (provider, model) = self.node.engine().providers.get(model)?;
        provider.check(&model, text)
    }

    /// Says no to the name of a model that cannot be.
    ///
    /// # Errors
    ///
    /// It is not `provider/model`, or there is no such provider.
    pub fn check_address(&self, model: &str) -> Result<(), ModelError> {
        self.node.engine().providers.get(model).map(drop)
    }

    /// Brings the metrics up to date that are read when somebody asks. Blocks on the disk, a little.
    pub fn measure(&self) {
        if let Err(error) = self.node.measure_disk() {
            tracing::debug!("what the data takes of the disk is not known: {error}");
        }
    }

    /// Whether writes are possible.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.node.is_ready()
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.node.limits()
    }
}
