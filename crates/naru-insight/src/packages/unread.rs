//! Package databases that naru doesn't read. Each is named in the notes, so that a list without its packages isn't taken for whole.

use super::Finder;

/// Where each lies, and whose it is.
const DATABASES: [(&str, &str); 9] = [
    ("usr/lib/sysimage/rpm/Packages.db", "rpm"),
    ("var/lib/rpm/Packages.db", "rpm"),
    ("usr/lib/sysimage/rpm/Packages", "rpm"),
    ("var/lib/rpm/Packages", "rpm"),
    ("var/lib/rpmmanifest/container-manifest-2", "rpm"),
    ("var/lib/pacman/local/ALPM_DB_VERSION", "pacman"),
    ("var/db/xbps/pkgdb-0.38.plist", "xbps"),
    ("var/db/pkg/local.sqlite", "pkg"),
    ("nix/var/nix/db/db.sqlite", "Nix"),
];

pub fn find(finder: &mut Finder<'_>) {
    for (path, owner) in DATABASES {
        if finder.tree.node(path).is_some() {
            finder.note(format!("not read: {owner} database (/{path}); its packages are not listed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::packages::tests::found;

    #[test]
    fn the_note_names_the_database() {
        let found = found(&[("var/lib/rpm/Packages.db", b"RpmP")]);
        assert_eq!(
            found.notes,
            ["not read: rpm database (/var/lib/rpm/Packages.db); its packages are not listed"]
        );
    }
}
