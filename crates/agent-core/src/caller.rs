//! Who asks: the identity that every port call carries.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::id::{Role, TenantId, UserId};

/// The person or service on whose behalf something happens.
///
/// There is no run, and so no call of a model or tool, without one.
///
/// ```
/// use agent_core::Caller;
///
/// let ann = Caller::new("acme", "ann")?.with_role("agent")?;
/// assert_eq!(ann.tenant.as_str(), "acme");
/// assert!(Caller::new("", "ann").is_err());
/// # Ok::<(), agent_core::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Caller {
    /// The tenant that the caller belongs to.
    pub tenant: TenantId,
    /// The caller within the tenant.
    pub user: UserId,
    /// What the caller may do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
}

impl Caller {
    /// A caller without roles.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when `tenant` or `user` is empty, longer than 128 bytes, or holds control characters.
    pub fn new(tenant: impl AsRef<str>, user: impl AsRef<str>) -> Result<Self, InvalidValue> {
        Ok(Self { tenant: TenantId::new(tenant)?, user: UserId::new(user)?, roles: BTreeSet::new() })
    }

    /// The same caller with one more role.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when `role` is no valid [`Role`].
    pub fn with_role(mut self, role: impl AsRef<str>) -> Result<Self, InvalidValue> {
        self.roles.insert(Role::new(role)?);
        Ok(self)
    }

    /// Whether this is the same person: tenant and user agree, whatever the roles.
    #[must_use]
    pub fn is_same_person(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.user == other.user
    }
}
