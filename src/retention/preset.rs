//! Retention periods that laws and standards demand, by name.

use super::Period;
use super::policy::{FINANCIAL, FINANCIAL_TOOLS, HEALTHCARE, HEALTHCARE_TOOLS};
use std::fmt;

macro_rules! presets {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $period:expr, $class:expr, $tools:expr;)*) => {
        /// What a law or standard demands for an audit trail: the minimum period for the class that it concerns.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Preset { $($(#[$doc])* $variant,)* }

        impl Preset {
            /// Every preset.
            pub const ALL: &[Preset] = &[$(Preset::$variant,)*];

            /// Its name in a configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $(Preset::$variant => $name,)* }
            }

            /// The period for which it demands that the class is kept.
            pub const fn period(self) -> Period {
                match self { $(Preset::$variant => $period,)* }
            }

            /// The class that it concerns; `None` means the default class, whatever its name.
            pub const fn class(self) -> Option<&'static str> {
                match self { $(Preset::$variant => $class,)* }
            }

            pub(super) const fn tools(self) -> &'static [&'static str] {
                match self { $(Preset::$variant => $tools,)* }
            }
        }
    };
}

presets! {
    /// HIPAA, 45 CFR 164.316(b)(2)(i): `healthcare`, 6 years.
    Hipaa = "hipaa", Period::of_years(6), Some(HEALTHCARE), HEALTHCARE_TOOLS;
    /// Records of audits, 17 CFR 210.2-06: `financial`, 7 years.
    Finance = "finance", Period::of_years(7), Some(FINANCIAL), FINANCIAL_TOOLS;
    /// PCI DSS 10.5.1: the default class, 1 year.
    PciDss = "pci-dss", Period::of_years(1), None, &[];
    /// EU AI Act, articles 19 and 26(6): the default class, 6 months.
    EuAiAct = "eu-ai-act", Period::of_months(6), None, &[];
    /// ASTM E2147: `healthcare`, 10 years.
    AstmE2147 = "astm-e2147", Period::of_years(10), Some(HEALTHCARE), HEALTHCARE_TOOLS;
}

impl Preset {
    /// The preset with this name.
    pub fn from_name(name: &str) -> Option<Preset> {
        Preset::ALL.iter().copied().find(|p| p.as_str() == name)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
