/* A guest in C: subscribers that are Python objects, and events that are told to them.
 *
 * Compile it for WebAssembly, as docs/guests.md says; wasm2c_guest.py does, and runs it. A reference has no
 * address and no size: it is a parameter, a result, a local variable, or an element of a table.
 */

typedef __externref_t object;

#define IMPORT(name) __attribute__((import_module("host"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

/* self.method(argument), by the host; the method's name is in the guest's memory. */
IMPORT(call) object call(object self, const char *method, int length, object argument);
#define CALL(self, method, argument) call(self, #method, sizeof #method - 1, argument)

/* WebAssembly's table, which the host knows to be a root; the numbers in it are C's, in the guest's memory. */
static object subscribers[0];
static int count;

/* The new subscriber's number, or -1 if the host allows no more. */
EXPORT(subscribe) int subscribe(object subscriber)
{
    if (count < __builtin_wasm_table_size(subscribers)) {
        __builtin_wasm_table_set(subscribers, count, subscriber);
    }
    else if (__builtin_wasm_table_grow(subscribers, subscriber, 1) < 0) {
        return -1;
    }
    return count++;
}

/* The last one gets the number. A null stays behind, or the table would keep the object. */
EXPORT(unsubscribe) void unsubscribe(int number)
{
    if (number < 0 || number >= count) {
        __builtin_trap();
    }
    count--;
    __builtin_wasm_table_set(subscribers, number, __builtin_wasm_table_get(subscribers, count));
    __builtin_wasm_table_set(subscribers, count, __builtin_wasm_ref_null_extern());
}

/* Appends the event to each subscriber; how many there are. */
EXPORT(publish) int publish(object event)
{
    for (int i = 0; i < count; i++) {
        CALL(__builtin_wasm_table_get(subscribers, i), append, event);
    }
    return count;
}
