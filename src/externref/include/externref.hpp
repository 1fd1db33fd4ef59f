/* externref.hpp: externref::Ref, a C++ object that owns a reference.
 *
 * A Ref is one machine word: null, which is Python's None, or the raw pointer of a reference of
 * which it owns one count. Copying it adds a count, destroying it drops one, moving it changes none.
 *
 * No member below needs the GIL, but for those that say so: a Ref is copied and destroyed on any
 * thread, and after the interpreter's exit. So a lambda may capture one, and a container in a
 * thread of C++'s own may hold some, where a captured PyObject would crash. What the last Ref owned is
 * released soon after, under the GIL: see docs/abi.md, "The last drop".
 *
 * As with std::shared_ptr, threads may each use a Ref of their own to one object at once; one
 * Ref that several threads use, and one of them changes, needs a lock.
 *
 * C++17; needs externref.h, and no Python.h. The members that need Python are defined in
 * externref_python.hpp. */
#ifndef EXTERNREF_HPP
#define EXTERNREF_HPP

#include <cstddef>
#include <functional>
#include <utility>

#include "externref.h"

struct _object; /* Python's PyObject */

namespace externref {

class Ref {
  public:
    /* Null. */
    constexpr Ref() noexcept = default;
    constexpr Ref(std::nullptr_t) noexcept
    {
    }

    Ref(const Ref &other) noexcept : raw_(externref_clone(other.raw_))
    {
    }

    /* Leaves `other` null. */
    Ref(Ref &&other) noexcept : raw_(std::exchange(other.raw_, nullptr))
    {
    }

    /* Copies or moves. What was owned before is dropped last, when *this is whole. */
    Ref &operator=(Ref other) noexcept
    {
        swap(other);
        return *this;
    }

    ~Ref()
    {
        externref_drop(raw_);
    }

    /* A Ref that takes over the caller's count of `raw`, as of into_raw() here and in Python; null for NULL. */
    [[nodiscard]] static Ref from_raw(void *raw) noexcept
    {
        return Ref(raw);
    }

    /* A Ref with a count of its own; the caller, who owns `raw` or was lent it, keeps theirs. */
    [[nodiscard]] static Ref clone_from_raw(void *raw) noexcept
    {
        return Ref(externref_clone(raw));
    }

    /* Moves out: the caller owns the count now, and *this is null. */
    [[nodiscard]] void *into_raw() noexcept
    {
        return std::exchange(raw_, nullptr);
    }

    /* Lends the raw pointer, for as long as *this owns it. */
    [[nodiscard]] void *as_raw() const noexcept
    {
        return raw_;
    }

    /* Drops what is owned; *this is null. */
    void reset() noexcept
    {
        Ref().swap(*this);
    }

    void swap(Ref &other) noexcept
    {
        std::swap(raw_, other.raw_);
    }

    friend void swap(Ref &left, Ref &right) noexcept
    {
        left.swap(right);
    }

    /* Whether it is not null. */
    explicit operator bool() const noexcept
    {
        return raw_ != nullptr;
    }

    /* How many owners there are, this one among them; 0 for null. Exact when no other thread changes it. */
    [[nodiscard]] std::size_t strong_count() const noexcept
    {
        return raw_ != nullptr ? externref_strong_count(raw_) : 0;
    }

    /* Equality, order and hash are of the allocation, never of the object; null is equal to null. */
    friend bool operator==(const Ref &left, const Ref &right) noexcept
    {
        return left.raw_ == right.raw_;
    }
    friend bool operator!=(const Ref &left, const Ref &right) noexcept
    {
        return left.raw_ != right.raw_;
    }
    friend bool operator<(const Ref &left, const Ref &right) noexcept
    {
        return std::less<void *>()(left.raw_, right.raw_);
    }
    friend bool operator>(const Ref &left, const Ref &right) noexcept
    {
        return right < left;
    }
    friend bool operator<=(const Ref &left, const Ref &right) noexcept
    {
        return !(right < left);
    }
    friend bool operator>=(const Ref &left, const Ref &right) noexcept
    {
        return !(left < right);
    }

    /* -- With the GIL; include externref_python.hpp, which says who owns what */

    [[nodiscard]] static Ref from_object(_object *object);
    [[nodiscard]] _object *object() const;
    [[nodiscard]] static Ref unwrap(_object *ref);
    [[nodiscard]] _object *wrap() const;
    [[nodiscard]] static Ref from_python(_object *value);
    [[nodiscard]] _object *to_python() const &;
    [[nodiscard]] _object *to_python() &&;
    void drop_now() noexcept;

  private:
    explicit Ref(void *raw) noexcept : raw_(raw)
    {
    }

    void *raw_ = nullptr;
};

static_assert(sizeof(Ref) == sizeof(void *), "a Ref is one machine word");

} // namespace externref

template <> struct std::hash<externref::Ref> {
    std::size_t operator()(const externref::Ref &ref) const noexcept
    {
        return std::hash<void *>()(ref.as_raw());
    }
};

#endif /* EXTERNREF_HPP */
