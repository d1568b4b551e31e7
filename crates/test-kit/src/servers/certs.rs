//! Certificates for 127.0.0.1 and names that lead there, of an authority made up for the occasion.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// PEM files: the authority's certificate, and certificates and keys of a server and a client.
pub struct Certificates {
    folder: TempDir,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Makes them.
    pub fn new() -> Self {
        Self::naming(&[])
    }

    /// As [`Self::new`]; they name these hosts as well.
    pub fn naming(hosts: &[&str]) -> Self {
        let certificates = Self { folder: tempfile::tempdir().expect("a folder") };
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Not the name that the others get: a certificate of that name would seem to be its own authority.
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        std::fs::write(certificates.ca(), authority.pem()).expect("a file");
        for name in ["server", "client"] {
            let names = ["127.0.0.1", "localhost"].iter().chain(hosts).map(|&host| host.to_owned());
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(names.collect::<Vec<_>>()).expect("names");
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            std::fs::write(certificates.file(&format!("{name}.pem")), certificate.pem()).expect("a file");
            std::fs::write(certificates.file(&format!("{name}.key")), key.serialize_pem()).expect("a file");
        }
        certificates
    }

    /// A file in the folder: `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As [`Self::file`], for a command line.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The folder that they are in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
