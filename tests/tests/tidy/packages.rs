//! What the project is built from: licences, bans, sources, pins, the direction between its own packages, and
//! which features a build has. All of it is read from the dependency graph of `Cargo.lock`.

use crate::repository::{Package, PackageGraph};
use std::collections::BTreeSet;

/// Licences under which the project may contain a package. Each asks for no more than its notice.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
];

/// Packages that must not be in the graph at all, each with its reason.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "rustls uses ring; one cryptographic library is enough"),
    ("aws-lc-sys", "rustls uses ring; it also needs cmake"),
    ("openssl-sys", "a system library; TLS is rustls"),
    ("native-tls", "a system library; TLS is rustls"),
    ("serde_yaml", "unmaintained; yaml_serde continues it"),
    ("bincode", "unmaintained; records on disk and frames are postcard"),
];

/// Packages that the workspace must not name itself, though others may bring them.
const BANNED_DIRECTLY: &[(&str, &str)] =
    &[("chrono", "jiff is the calendar library"), ("time", "jiff is the calendar library")];

/// What each package of the workspace may depend on inside the workspace.
const DIRECTION: &[(&str, &[&str])] = &[
    ("holdfast-crds", &[]),
    ("holdfast-core", &[]),
    ("holdfast-api", &[]),
    ("holdfast", &["holdfast-core", "holdfast-api"]),
    ("holdfast-operator", &["holdfast-crds", "holdfast-api"]),
    ("holdfast-tests", &["holdfast-api", "holdfast-crds", "holdfast-core"]),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

const OPENRAFT_CRATES: [&str; 4] = ["openraft", "openraft-macros", "openraft-rt", "openraft-rt-tokio"];

const SEEDED_BUGS: &str = "seeded-bugs";

/// Packages whose licence expression cannot be met with [`LICENCES`].
pub(crate) fn unlicensed(graph: &PackageGraph) -> Vec<String> {
    let refused = graph.packages.iter().filter(|package| !package.license.as_deref().is_some_and(may_use));
    refused.map(|package| format!("{}: licence {:?}", label(package), package.license)).collect()
}

/// Packages that have no place in the graph, or not in a manifest of the workspace.
pub(crate) fn banned(graph: &PackageGraph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, reason) in BANNED {
        let packages = graph.packages.iter().filter(|package| package.name == *name);
        found.extend(packages.map(|package| format!("{}: {reason}", label(package))));
    }
    for (name, reason) in BANNED_DIRECTLY {
        let members = graph
            .members()
            .filter(|member| member.dependencies.iter().any(|dependency| dependency.name == *name));
        found.extend(members.map(|member| format!("{}: depends on {name}: {reason}", member.name)));
    }
    found
}

/// Packages from anywhere but the public registry and this workspace.
pub(crate) fn foreign(graph: &PackageGraph) -> Vec<String> {
    let foreign = graph
        .packages
        .iter()
        .filter(|package| package.source.as_deref() != Some(REGISTRY) && !graph.is_member(package));
    foreign.map(|package| format!("{}: comes from {:?}", label(package), package.source)).collect()
}

/// Dependencies between packages of the workspace that its layers do not allow.
pub(crate) fn wrong_direction(graph: &PackageGraph) -> Vec<String> {
    let members: BTreeSet<&str> = graph.members().map(|member| member.name.as_str()).collect();
    let mut found = Vec::new();
    for member in graph.members() {
        let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| *name == member.name) else {
            found.push(format!("{}: has no place among the layers", member.name));
            continue;
        };
        let inside = member.dependencies.iter().map(|dependency| dependency.name.as_str());
        // A package's own tests may ask it for its testing feature.
        let inside = inside.filter(|name| *name != member.name);
        let wrong = inside.filter(|name| members.contains(name) && !allowed.contains(name));
        found.extend(wrong.map(|name| format!("{}: must not depend on {name}", member.name)));
    }
    found
}

/// The openraft crates that the workspace does not pin with `=` to the version of the others. They are an alpha,
/// and their requirements on each other are not exact.
pub(crate) fn unpinned_openraft(graph: &PackageGraph) -> Vec<String> {
    let mut found = Vec::new();
    let mut pins = BTreeSet::new();
    for name in OPENRAFT_CRATES {
        let dependencies = graph.members().flat_map(|member| &member.dependencies);
        let requirements: Vec<&str> = dependencies
            .filter(|dependency| dependency.name == name)
            .map(|dependency| dependency.req.as_str())
            .collect();
        if requirements.is_empty() {
            found.push(format!("{name}: no package of the workspace pins it"));
        }
        let loose = requirements.iter().filter(|requirement| !requirement.starts_with('='));
        found.extend(loose.map(|requirement| format!("{name}: required as {requirement}")));
        pins.extend(requirements);
    }
    if pins.len() > 1 {
        found.push(format!("openraft crates of different versions: {pins:?}"));
    }
    let unknown = graph.packages.iter().filter(|package| {
        package.name.starts_with("openraft") && !OPENRAFT_CRATES.contains(&package.name.as_str())
    });
    found.extend(unknown.map(|package| format!("{}: an openraft crate that nothing pins", label(package))));
    found
}

/// Every way by which a build gets the seeded bugs without naming the feature on its command line.
pub(crate) fn seeded_bugs_leaks(graph: &PackageGraph) -> Vec<String> {
    let mut found = Vec::new();
    for member in graph.members() {
        for dependency in &member.dependencies {
            if dependency.features.iter().any(|feature| feature == SEEDED_BUGS) {
                found.push(format!(
                    "{}: its dependency {} enables {SEEDED_BUGS}",
                    member.name, dependency.name
                ));
            }
        }
        for (feature, enables) in &member.features {
            // The feature may hand itself on to another package, and nothing else may enable it.
            let enabled = enables.iter().any(|enabled| enabled.rsplit('/').next() == Some(SEEDED_BUGS));
            if enabled && feature != SEEDED_BUGS {
                found.push(format!("{}: its feature {feature} enables {SEEDED_BUGS}", member.name));
            }
        }
    }
    found
}

fn label(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

/// Whether an SPDX expression can be met: `AND` needs both sides, `OR` (and the older `/`) either.
fn may_use(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    alternatives(&mut rest).unwrap_or(false) && rest.is_empty()
}

/// `None` is an expression that cannot be read, which is refused.
fn alternatives(rest: &mut &[&str]) -> Option<bool> {
    let mut met = conjunction(rest)?;
    while let Some(remaining) = rest.strip_prefix(&["OR"]) {
        *rest = remaining;
        met |= conjunction(rest)?;
    }
    Some(met)
}

fn conjunction(rest: &mut &[&str]) -> Option<bool> {
    let mut met = licence(rest)?;
    while let Some(remaining) = rest.strip_prefix(&["AND"]) {
        *rest = remaining;
        met &= licence(rest)?;
    }
    Some(met)
}

fn licence(rest: &mut &[&str]) -> Option<bool> {
    let (first, remaining) = rest.split_first()?;
    *rest = remaining;
    if *first == "(" {
        let met = alternatives(rest)?;
        *rest = rest.strip_prefix(&[")"])?;
        return Some(met);
    }
    if let [with, exception, remaining @ ..] = *rest
        && *with == "WITH"
    {
        *rest = remaining;
        return Some(LICENCES.contains(&format!("{first} WITH {exception}").as_str()));
    }
    Some(LICENCES.contains(first))
}

#[cfg(test)]
mod tests {
    use super::{
        banned, foreign, may_use, seeded_bugs_leaks, unlicensed, unpinned_openraft, wrong_direction,
    };
    use crate::repository::PackageGraph;
    use serde_json::{Value, json};

    /// A package with nothing to object to, with some fields replaced.
    fn package(name: &str, fields: &Value) -> Value {
        let mut package = json!({
            "name": name, "version": "1.0.0", "license": "MIT", "source": super::REGISTRY,
            "manifest_path": format!("/registry/{name}/Cargo.toml"),
            "dependencies": [], "features": {}, "targets": [],
        });
        let fields = fields.as_object().unwrap().clone();
        package.as_object_mut().unwrap().extend(fields);
        package
    }

    fn member(name: &str, dependencies: &Value, features: &Value) -> Value {
        let manifest = format!("/repository/{name}/Cargo.toml");
        let fields = json!({"source": null, "manifest_path": manifest, "dependencies": dependencies, "features": features});
        package(name, &fields)
    }

    fn graph(packages: &[Value]) -> PackageGraph {
        serde_json::from_value(json!({"packages": packages, "workspace_root": "/repository"})).unwrap()
    }

    fn dependency(name: &str, req: &str) -> Value {
        json!({"name": name, "req": req, "features": []})
    }

    #[test]
    fn licence_expressions_are_read_as_spdx_means_them() {
        for met in
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "GPL-3.0 OR (MIT AND ISC)"]
        {
            assert!(may_use(met), "{met}");
        }
        assert!(may_use("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        for refused in
            ["GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR MIT AND MPL-2.0", "", "(MIT", "MIT MIT", "MIT OR"]
        {
            assert!(!may_use(refused), "{refused}");
        }
        assert!(!may_use("Apache-2.0 WITH Other-exception"));
    }

    #[test]
    fn a_package_without_a_usable_licence_is_caught() {
        let packages =
            [package("a", &json!({"license": "AGPL-3.0"})), package("b", &json!({"license": null}))];
        assert_eq!(unlicensed(&graph(&packages)).len(), 2);
        assert_eq!(unlicensed(&graph(&[package("a", &json!({}))])), Vec::<String>::new());
    }

    #[test]
    fn a_banned_package_is_caught() {
        for name in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls", "serde_yaml", "bincode"] {
            assert_eq!(banned(&graph(&[package(name, &json!({}))])).len(), 1, "{name}");
        }
        let direct = member("holdfast", &json!([dependency("chrono", "^0.4")]), &json!({}));
        assert_eq!(banned(&graph(&[direct, package("chrono", &json!({}))])).len(), 1);
        assert_eq!(banned(&graph(&[package("chrono", &json!({}))])), Vec::<String>::new());
    }

    #[test]
    fn a_package_from_git_another_registry_or_another_folder_is_caught() {
        let packages = [
            package("a", &json!({"source": "git+https://example.org/a"})),
            package("b", &json!({"source": "registry+https://example.org/index"})),
            package("c", &json!({"source": null, "manifest_path": "/elsewhere/c/Cargo.toml"})),
        ];
        assert_eq!(foreign(&graph(&packages)).len(), 3);
        let fine = [package("a", &json!({})), member("holdfast", &json!([]), &json!({}))];
        assert_eq!(foreign(&graph(&fine)), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_against_the_layers_is_caught() {
        let core = member("holdfast-core", &json!([dependency("holdfast-api", "*")]), &json!({}));
        let api = member("holdfast-api", &json!([dependency("serde", "^1")]), &json!({}));
        assert_eq!(
            wrong_direction(&graph(&[core, api.clone()])),
            ["holdfast-core: must not depend on holdfast-api"]
        );
        let service = member("holdfast", &json!([dependency("holdfast-api", "*")]), &json!({}));
        assert_eq!(wrong_direction(&graph(&[service, api])), Vec::<String>::new());
        assert_eq!(wrong_direction(&graph(&[member("holdfast-extra", &json!([]), &json!({}))])).len(), 1);
    }

    #[test]
    fn an_openraft_crate_that_is_not_pinned_is_caught() {
        let with = |versions: [&str; 4]| {
            let pins = super::OPENRAFT_CRATES.iter().zip(versions);
            let dependencies: Vec<_> = pins.map(|(name, version)| dependency(name, version)).collect();
            unpinned_openraft(&graph(&[member("holdfast", &json!(dependencies), &json!({}))]))
        };
        assert_eq!(with(["=0.1"; 4]), Vec::<String>::new());
        assert_eq!(
            with(["=0.1", "^0.1", "=0.1", "=0.1"]).len(),
            2,
            "loose, and so different from the others"
        );
        assert_eq!(with(["=0.1", "=0.2", "=0.1", "=0.1"]).len(), 1);
        assert_eq!(unpinned_openraft(&graph(&[])).len(), 4);
        assert_eq!(unpinned_openraft(&graph(&[package("openraft-extra", &json!({}))])).len(), 5);
    }

    #[test]
    fn every_way_to_enable_the_seeded_bugs_by_default_is_caught() {
        let check = |dependencies: Value, features: Value| {
            seeded_bugs_leaks(&graph(&[member("holdfast", &dependencies, &features)])).len()
        };
        let enabling = json!([{"name": "holdfast-core", "req": "*", "features": ["seeded-bugs"]}]);
        assert_eq!(check(enabling, json!({})), 1);
        assert_eq!(check(json!([]), json!({"default": ["seeded-bugs"], "seeded-bugs": []})), 1);
        assert_eq!(check(json!([]), json!({"testing": ["holdfast-core/seeded-bugs"]})), 1);
        assert_eq!(check(json!([]), json!({"testing": ["holdfast-core?/seeded-bugs"]})), 1);
        assert_eq!(check(json!([]), json!({"seeded-bugs": ["holdfast-core/seeded-bugs"], "default": []})), 0);
    }
}
