// Values of any type in the saved_data of an autograd context.
#pragma once

#include <torch/custom_class.h>

#include <utility>

#include "core/torch/torch.h"

namespace ospnext {

template <class T>
struct KeptValue : torch::CustomClassHolder {
  explicit KeptValue(T value) : value(std::move(value)) {}
  T value;
};

template <class T>
c10::IValue keep_value(T value) {
  return c10::IValue::make_capsule(c10::make_intrusive<KeptValue<T>>(std::move(value)));
}

// The value of type T that keep_value() put into `kept`, which must outlive the reference.
template <class T>
T& kept_value(const c10::IValue& kept) {
  return static_cast<KeptValue<T>&>(*kept.toCapsule()).value;
}

}  // namespace ospnext
