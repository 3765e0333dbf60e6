//! Functions of the embedding program, declared in one line each.

/// Declares functions that the embedding program has defined for its guests.
///
/// ```
/// polychord_guest::host_functions! { unsafe extern "host" { fn log(text: &str) -> i64; } }
///
/// polychord_guest::host_functions! {
///     unsafe extern "game" {
///         /// Seconds since the game began.
///         pub fn now() -> f64;
///         fn move_to(unit: u32, x: f32, y: f32);
///         pub(crate) fn read(file: u32, to: &mut [u8]) -> i32;
///     }
/// }
///
/// # fn run() {
/// log("three seconds later");
/// move_to(7, now() as f32, 0.0);
/// # }
/// ```
///
/// Parameters are numbers (`i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `usize`), or `&str`, `&[u8]` and
/// `&mut [u8]`, each of which is two parameters of the import: a pointer and a length. The result is a
/// number, or nothing. The host's side of `log` is
///
/// ```text
/// imports.function("host", "log", |caller: &mut Caller<'_>, (ptr, len): (u32, u32)| -> Result<i64, HostError> {
///     println!("{}", caller.read_str(ptr, len)?);
///     Ok(0)
/// })?;
/// ```
///
/// They can be called without `unsafe`. The `unsafe` in the declaration is a promise: that the names
/// and types are those of the host, and that the function changes no other memory of the guest than
/// the `&mut [u8]` that it is given, and releases no layer that may be mapped.
///
/// Other types, references that are kept, and what has no number do not compile:
///
/// ```compile_fail
/// polychord_guest::host_functions! { unsafe extern "host" { fn log(text: String) -> i64; } }
/// ```
///
/// On other targets than WebAssembly such a function panics.
#[macro_export]
macro_rules! host_functions {
    (unsafe extern $module:literal {
        $($(#[$meta:meta])* $vis:vis fn $name:ident($($params:tt)*) $(-> $result:ty)?;)*
    }) => {
        $($crate::__host_function! {
            { $module $(#[$meta])* $vis $name ($($result)?) }
            [] [] []
            $($params)*
        })*
    };
}

/// Takes one parameter after the other, into those of the wrapper, types of the import, and arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __host_function {
    ($head:tt [$($own:tt)*] [$($types:ty,)*] [$($args:expr,)*] $arg:ident: &str $(, $($rest:tt)*)?) => {
        $crate::__host_function! {
            $head
            [$($own)* $arg: &str,]
            [$($types,)* *const u8, usize,]
            [$($args,)* $arg.as_ptr(), $arg.len(),]
            $($($rest)*)?
        }
    };
    ($head:tt [$($own:tt)*] [$($types:ty,)*] [$($args:expr,)*] $arg:ident: &[u8] $(, $($rest:tt)*)?) => {
        $crate::__host_function! {
            $head
            [$($own)* $arg: &[u8],]
            [$($types,)* *const u8, usize,]
            [$($args,)* $arg.as_ptr(), $arg.len(),]
            $($($rest)*)?
        }
    };
    ($head:tt [$($own:tt)*] [$($types:ty,)*] [$($args:expr,)*] $arg:ident: &mut [u8] $(, $($rest:tt)*)?) => {
        $crate::__host_function! {
            $head
            [$($own)* $arg: &mut [u8],]
            [$($types,)* *mut u8, usize,]
            [$($args,)* $arg.as_mut_ptr(), $arg.len(),]
            $($($rest)*)?
        }
    };
    ($head:tt [$($own:tt)*] [$($types:ty,)*] [$($args:expr,)*] $arg:ident: $ty:ty $(, $($rest:tt)*)?) => {
        $crate::__host_function! {
            $head
            [$($own)* $arg: $ty,]
            [$($types,)* <$ty as $crate::Number>::Same,]
            [$($args,)* $arg,]
            $($($rest)*)?
        }
    };
    (
        { $module:literal $(#[$meta:meta])* $vis:vis $name:ident ($($result:ty)?) }
        [$($own:tt)*] [$($types:ty,)*] [$($args:expr,)*]
    ) => {
        $(#[$meta])*
        #[allow(dead_code, unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($own)*) $(-> <$result as $crate::Number>::Same)? {
            // On every target alike, so that tests find what a guest could not have.
            let _: ::core::option::Option<fn($($types),*)> = ::core::option::Option::None;
            #[cfg(target_family = "wasm")]
            {
                #[link(wasm_import_module = $module)]
                unsafe extern "C" {
                    fn $name($(_: $types),*) $(-> $result)?;
                }
                // SAFETY: the declaration promises that the host has such a function, and what it
                // leaves alone; buffers are borrowed.
                unsafe { $name($($args),*) }
            }
            #[cfg(not(target_family = "wasm"))]
            {
                let _ = ($($args,)*);
                ::core::panic!(
                    "`{}` of module `{}` is a function of the host: only a guest in WebAssembly has one",
                    ::core::stringify!($name),
                    $module,
                )
            }
        }
    };
}

/// What a function of the host may take and return.
///
/// Reached by [`host_functions!`](crate::host_functions) alone.
#[diagnostic::on_unimplemented(
    message = "a function of the host cannot take or return `{Self}`",
    note = "it takes numbers, `&str`, `&[u8]` and `&mut [u8]`, and returns a number or nothing"
)]
pub trait Number {
    /// The type itself.
    type Same;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Number for $number {
            type Same = Self;
        }
    )*};
}
numbers!(i32 u32 i64 u64 f32 f64 usize);
